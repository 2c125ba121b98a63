"""What is read of GitHub's answers, which come from outside: types and lengths are checked, the rest ignored.

https://docs.github.com/rest/pulls/pulls
https://docs.github.com/graphql/reference/objects#pullrequestreviewthread
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MAX_BODY = 65_536  # characters of a comment, a review, a summary

Sha = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
Name = Annotated[str, StringConstraints(max_length=500)]
Path = Annotated[str, StringConstraints(max_length=10_000)]
Text = Annotated[str, StringConstraints(max_length=4 * MAX_BODY)]
Id = Annotated[int, Field(ge=0, lt=2**63)]


Row = TypeVar("Row")
# GraphQL lists null in place of what the token may not see.
_Seen = BeforeValidator(
    lambda rows: [row for row in rows if row is not None] if isinstance(rows, list) else rows
)


class Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Side(Payload):
    sha: Sha


class Pull(Payload):
    number: int
    base: Side
    head: Side


class ChangedFile(Payload):
    """`patch` has no header lines, and is missing for binary and for large files."""

    filename: Path
    status: Name = ""
    previous_filename: Path | None = None
    patch: str | None = None


class Written(Payload):
    """A comment or review that was made, or changed."""

    id: Id
    html_url: Annotated[str, StringConstraints(max_length=4000)] = ""


class Actor(Payload):
    login: Name


class Comment(Payload):
    """`mine`: written by the owner of the token. Who may write to the repository can edit it all the same."""

    id: Id = Field(alias="fullDatabaseId")
    body: Text = ""
    url: Annotated[str, StringConstraints(max_length=4000)] = ""
    mine: bool = Field(default=False, alias="viewerDidAuthor")
    author: Actor | None = None
    editor: Actor | None = None

    @property
    def untouched(self) -> bool:
        """Written by us, and edited by nobody else since."""
        return self.mine and self.editor in (None, self.author)


class _Comments(Payload):
    total: int = Field(default=1, alias="totalCount")
    nodes: Annotated[list[Comment], _Seen] = []


class Thread(Payload):
    """A conversation on lines of the diff; `first` is the comment that began it."""

    id: Name
    resolved: bool = Field(alias="isResolved")
    path: Path = ""
    line: Id | None = None
    comments: _Comments = _Comments()

    @property
    def first(self) -> Comment | None:
        return self.comments.nodes[0] if self.comments.nodes else None

    @property
    def answered(self) -> bool:
        """Somebody spoke in it: we never answer ourselves."""
        return self.comments.total > 1


class PageInfo(Payload):
    more: bool = Field(alias="hasNextPage")
    cursor: Name | None = Field(default=None, alias="endCursor")


class Page(Payload, Generic[Row]):
    nodes: Annotated[list[Row], _Seen]
    info: PageInfo = Field(alias="pageInfo")


class Fault(Payload):
    """One entry of `errors` in an answer of GraphQL."""

    type: Name = ""
    message: Annotated[str, StringConstraints(max_length=10_000)] = ""
