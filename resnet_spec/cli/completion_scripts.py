"""Words as scripts of shells: plain tables and a few lines that look the right row up."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence

from resnet_spec.cli.completion_words import Words
from resnet_spec.cli.parsing import PROGRAM


def bash(found: Sequence[Words]) -> str:
    """Return the script for bash, 3.2 and later."""
    return "\n".join(
        [
            f"# {PROGRAM} in bash. To try it: source <({PROGRAM} completion bash)",
            "_resnet_spec() {",
            '  local now="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            '  local command="${COMP_WORDS[1]}" offered=""',
            *_lookup(found, '[ "$COMP_CWORD" -gt 2 ]', '"${COMP_WORDS[2]}"', "$COMP_CWORD"),
            '  COMPREPLY=($(compgen -W "$offered" -- "$now"))',
            "}",
            f"complete -o default -F _resnet_spec {PROGRAM}",
        ]
    )


def zsh(found: Sequence[Words]) -> str:
    """Return the script for zsh."""
    return "\n".join(
        [
            f"#compdef {PROGRAM}",
            f"# {PROGRAM} in zsh. To try it: source <({PROGRAM} completion zsh)",
            "_resnet_spec() {",
            '  local -a typed; typed=("${words[@]}")',
            '  local now="${typed[CURRENT]}" before="${typed[CURRENT-1]}"',
            '  local command="${typed[2]}" offered=""',
            *_lookup(found, "(( CURRENT > 3 ))", '"${typed[3]}"', "$((CURRENT - 1))"),
            '  if [ -n "$offered" ]; then compadd -- ${=offered}; fi',
            '  case "$now" in -*) ;; *) [ "$place" = 1 ] || _files ;; esac',
            "}",
            'if [ "${funcstack[1]}" = _resnet_spec ]; then _resnet_spec "$@"',
            f"else compdef _resnet_spec {PROGRAM}; fi",
        ]
    )


def _lookup(found: Sequence[Words], is_behind: str, inner: str, place: str) -> Iterator[str]:
    """Yield the lines that bash and zsh have in common: they set `offered` for what is typed."""
    outer = [it for it in found if " " not in it.command]
    parents = sorted({it.command.split()[0] for it in found if " " in it.command})
    yield f"  local place={place}"
    yield '  if [ "$place" = 1 ]; then'
    yield f"    offered={_quoted([*(it.command for it in outer), '--help', '--version'])}"
    yield "  else"
    for parent in parents:
        is_inside = f'[ "$command" = {parent} ] && {is_behind}'
        yield f'    if {is_inside}; then command="$command "{inner}; fi'
    yield '    case "$command $before" in'
    for it in found:
        for option in it.options:
            if option.values is not None:
                cases = " | ".join(shlex.quote(f"{it.command} {name}") for name in option.names)
                yield f"      {cases}) offered={_quoted(option.values)} ;;"
    yield '      *) case "$now" in'
    yield '        -*) case "$command" in'
    for it in found:
        names = [name for option in it.options for name in option.names]
        yield f"          {shlex.quote(it.command)}) offered={_quoted(names)} ;;"
    yield "        esac ;;"
    yield '        *) case "$command" in'
    for it in found:
        if it.values:
            yield f"          {shlex.quote(it.command)}) offered={_quoted(it.values)} ;;"
    yield "        esac ;;"
    yield "      esac ;;"
    yield "    esac"
    yield "  fi"


def fish(found: Sequence[Words]) -> str:
    """Return the script for fish."""
    lines = [f"# {PROGRAM} in fish. To try it: {PROGRAM} completion fish | source"]
    lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand -l version -l help -f")
    for it in found:
        outer, _, inner = it.command.partition(" ")
        if not inner:
            about = shlex.quote(it.help)
            lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand -f -a {outer} -d {about}")
        lines += _fish_lines(it, outer, inner)
    return "\n".join(lines)


def _fish_lines(it: Words, outer: str, inner: str) -> Iterator[str]:
    seen = f"__fish_seen_subcommand_from {outer}"
    if inner:
        seen += f"; and __fish_seen_subcommand_from {inner}"
    start = f"complete -c {PROGRAM} -n {shlex.quote(seen)}"
    if it.values:
        yield f"{start} -a {_quoted(it.values)}"
    for option in it.options:
        names = " ".join(_fish_name(name) for name in option.names)
        values = "" if option.values is None else " -r"
        if option.values:
            values += f" -a {_quoted(option.values)}"
        yield f"{start} {names}{values} -d {shlex.quote(option.help)}"


def _fish_name(name: str) -> str:
    return f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"


def _quoted(words: Sequence[str]) -> str:
    return shlex.quote(" ".join(words))


SCRIPTS: dict[str, Callable[[Sequence[Words]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
