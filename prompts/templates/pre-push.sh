#!/bin/sh
@MARK@
# @WRITTEN@
program=@PROGRAM@
kept=${0%/*}/@KEPT@

usual=$PATH:/usr/bin:/bin # without `cat` every push would look like one of nothing
refs=$(PATH=$usual; cat)
pushed() {
  [ -z "$refs" ] || printf '%s\n' "$refs" 2>/dev/null
}

# A hook that another tool took over and calls again: once for a push is enough. Another push that a hook makes
# is one of its own.
this_push="$PWD ${0%/*} $* $(PATH=$usual; pushed | cksum)"
[ "${_REVIEW_AGENT_PUSH-}" != "$this_push" ] || exit 0
_REVIEW_AGENT_PUSH=$this_push
export _REVIEW_AGENT_PUSH

code=0
if @IF_KEPT@; then
  pushed | @RUN_KEPT@ "$@" || code=$?
fi
if [ "$code" != 0 ]; then
  printf '%s\n' @KEPT_FAILED@ >&2
  exit "$code"
fi

if [ "${REVIEW_AGENT_SKIP-}" = 1 ]; then
  printf '%s\n' @SKIPPED@ >&2
  exit 0
fi

code=127
if [ -x "$program" ]; then
  code=0
  # Neither a folder of the repository nor the Python of the program that pushes may get into ours.
  unset PYTHONPATH PYTHONHOME
  pushed | "$program" hook run pre-push "$@" || code=$?
fi
case $code in
  0 | 1) exit "$code" ;;
  129 | 130 | 143) exit 1 ;; # interrupted: nothing was looked at, and nothing is to be pushed
esac
printf '%s\n' @FAILED@ >&2
exit @ON_FAILURE@
