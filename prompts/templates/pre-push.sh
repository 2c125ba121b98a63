#!/bin/sh
@MARK@
# @WRITTEN@
program=@PROGRAM@
kept=${0%/*}/@KEPT@

# A hook that another tool took over and calls again: once for a push is enough.
this_push="$PWD ${0%/*} $*"
[ "${_REVIEW_AGENT_PUSH-}" != "$this_push" ] || exit 0
_REVIEW_AGENT_PUSH=$this_push
export _REVIEW_AGENT_PUSH

refs=$(cat)
pushed() {
  [ -z "$refs" ] || printf '%s\n' "$refs" 2>/dev/null
}

if @IF_KEPT@; then
  pushed | @RUN_KEPT@ "$@" || exit $?
fi

code=127
if [ -x "$program" ]; then
  code=0
  pushed | "$program" hook run pre-push "$@" || code=$?
fi
case $code in
  0 | 1) exit "$code" ;;
esac
printf '%s\n' @FAILED@ >&2
[ "${REVIEW_AGENT_SKIP-}" != 1 ] || exit 0
exit @ON_FAILURE@
