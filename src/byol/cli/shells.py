"""What a script for completion looks like in each shell."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from byol.cli.verbs import EVALUATIONS, VERBS

FILES = "@files"  # stands among names where files are meant


class Words(NamedTuple):
    """What may follow a command.

    Args:
        name: of the command: "pack", "eval knn".
        positions: for each leading word, the names it may have; FILES among them where it may be a path.
        flags: name -> the names that its value may have; None where it has no value.
        several: flags that take any number of values.
    """

    name: str
    positions: list[list[str]]
    flags: dict[str, list[str] | None]
    several: set[str]


# ---- bash and zsh -----------------------------------------------------------------------------------

_FACTS = """\
_byol_words() {{  # sets what may follow the command $1
  flags= several= positions=0 first= second=
  case $1 in
{commands}
  esac
}}
_byol_values() {{  # sets what may follow the flag $2 of the command $1; '-' where nothing does
  values=
  case "$1 $2" in
{values}
  esac
}}
"""

_POSITION = """\
# Sets `values` to what may stand at the end of the words $2 $3 ... behind the command $1.
_byol_choose() {
  local command=$1 last= count=0 given=0 word
  shift
  _byol_words "$command"
  for word in "$@"; do
    case $word in
      -*=*) last= ;;
      -*) last=$word count=0 ;;
      *) if [ -n "$last" ]; then count=$((count + 1)); else given=$((given + 1)); fi ;;
    esac
  done
  if [ -n "$last" ]; then
    _byol_values "$command" "$last"
    case " $several " in *" $last "*) count=0 ;; esac
    if [ "$values" != - ] && [ $count -eq 0 ]; then return; fi
    values=$flags
  elif [ $given -lt $positions ]; then
    if [ $given -eq 0 ]; then values=$first; else values=$second; fi
  else
    values=$flags
  fi
}
"""

_BASH = """\
_byol() {
  local IFS=$' \\t\\n' word=${COMP_WORDS[COMP_CWORD]} values flags several positions first second before
  local -a behind=() names=()
  COMPREPLY=()
  local i=1
  while [ $i -lt $COMP_CWORD ]; do  # bash takes --flag=value apart: --flag, =, value
    [ "${COMP_WORDS[i]}" != "=" ] && behind+=("${COMP_WORDS[i]}")
    i=$((i + 1))
  done
  [ "$word" = "=" ] && word=
  if [ ${#behind[@]} -eq 0 ]; then
    values="@verbs"
  elif [ "${behind[0]}" = completion ]; then
    values="bash zsh fish"
  elif [ "${behind[0]}" = eval ] && [ ${#behind[@]} -eq 1 ]; then
    values="@protocols"
  elif [ "${behind[0]}" = eval ]; then
    _byol_choose "eval ${behind[1]}" "${behind[@]:2}"
  else
    _byol_choose "${behind[0]}" "${behind[@]:1}"
  fi
  case $word in -*) values=$flags ;; esac
  for before in $values; do
    if [ "$before" = @files ]; then
      compopt -o filenames 2>/dev/null
      while IFS= read -r before; do COMPREPLY+=("$before"); done < <(compgen -f -- "$word")
    else
      names+=("$before")
    fi
  done
  while IFS= read -r before; do COMPREPLY+=("$before"); done < <(compgen -W "${names[*]}" -- "$word")
}
complete -F _byol byol
"""

_ZSH = """\
_byol() {
  local word=${words[CURRENT]} values flags several positions first second
  local -a behind names
  behind=("${(@)words[2,CURRENT-1]}")
  if [[ $word == -*=* ]]; then
    behind+=("${word%%=*}")
    compset -P '*='
    word=
  fi
  if (( ${#behind} == 0 )); then
    values="@verbs"
  elif [[ ${behind[1]} == completion ]]; then
    values="bash zsh fish"
  elif [[ ${behind[1]} == eval ]] && (( ${#behind} == 1 )); then
    values="@protocols"
  elif [[ ${behind[1]} == eval ]]; then
    _byol_choose "eval ${behind[2]}" "${(@)behind[3,-1]}"
  else
    _byol_choose "${behind[1]}" "${(@)behind[2,-1]}"
  fi
  [[ $word == -* ]] && values=$flags
  names=(${=values})
  (( ${names[(I)@files]} )) && _files
  names=(${names:#@files})
  (( ${#names} )) && compadd -- $names
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _byol byol
"""


def _facts(commands: Iterable[Words]) -> str:
    lines, values = [], []
    for one in commands:
        first, second = (" ".join(one.positions[i]) if i < len(one.positions) else "" for i in (0, 1))
        flags, several = (" ".join(sorted(names)) for names in (one.flags, one.several))
        lines.append(
            f'    "{one.name}") flags="{flags}" several="{several}" '
            f'positions={len(one.positions)} first="{first}" second="{second}" ;;'
        )
        for flag, names in one.flags.items():
            if names is None:
                values.append(f'    "{one.name} {flag}") values=- ;;')
            elif names:
                values.append(f'    "{one.name} {flag}") values="{" ".join(names)}" ;;')
    return _FACTS.format(commands="\n".join(lines), values="\n".join(values)) + _POSITION


def _with_names(text: str) -> str:
    verbs = " ".join([*VERBS, "completion", "--help", "--version"])
    return text.replace("@verbs", verbs).replace("@protocols", f"{' '.join(EVALUATIONS)} --help")


def _bash(commands: list[Words]) -> str:
    return _facts(commands) + _with_names(_BASH)


def _zsh(commands: list[Words]) -> str:
    return _facts(commands) + _with_names(_ZSH)


# ---- fish -------------------------------------------------------------------------------------------

_FISH = """\
function __byol_at  # whether the words so far are these of $argv[1], and $argv[2] more where that is given
  set -l words (commandline -opc)
  set -l wanted byol (string split ' ' -- $argv[1])
  set -l length (count $wanted)
  test (count $words) -ge $length; or return 1
  test "byol $words[2..$length]" = "$wanted"; or return 1
  set -q argv[2]; or return 0
  test (count $words) -eq (math $length + $argv[2])
end
function __byol_among  # whether $argv[2] is the last flag so far, in a command that begins with $argv[1]
  __byol_at $argv[1]; or return 1
  set -l flags (commandline -opc | string match -- '--*')
  test "$flags[-1]" = $argv[2]
end
function __byol_none
  test (count (commandline -opc)) -eq 1
end
complete -c byol -f
"""


def _fish(commands: list[Words]) -> str:
    lines = [
        f"complete -c byol -n __byol_none -a {name} -d '{_quoted(verb.does)}'" for name, verb in VERBS.items()
    ]
    lines += [
        "complete -c byol -n __byol_none -a completion",
        "complete -c byol -n __byol_none -l help -l version",
    ]
    lines += ["complete -c byol -n '__byol_at completion 0' -a 'bash zsh fish'"]
    for name, verb in EVALUATIONS.items():
        lines.append(f"complete -c byol -n '__byol_at eval 0' -a {name} -d '{_quoted(verb.does)}'")
    for one in commands:
        for i, names in enumerate(one.positions):
            lines.append(f"complete -c byol -n '__byol_at \"{one.name}\" {i}' {_fish_values(names)}")
        for flag, values in sorted(one.flags.items()):
            wanted = "" if values is None else f" -r {_fish_values(values)}"
            here = f"complete -c byol -n '__byol_at \"{one.name}\"'"
            lines.append(f"{here} -l {flag.removeprefix('--')}{wanted}")
            if values and flag in one.several:
                among = here.replace("__byol_at", "__byol_among").removesuffix("'") + f" {flag}'"
                lines.append(f"{among} {_fish_values(values)}")
    return _FISH + "\n".join(lines)


def _fish_values(names: list[str]) -> str:
    words = " ".join(name for name in names if name != FILES)
    given = f"-a '{words}'" if words else ""
    return f"{'-F' if FILES in names else '-f'} {given}".strip()


def _quoted(text: str) -> str:
    return text.replace("'", "\\'")


class Shell(NamedTuple):
    """A shell that we write a script for.

    Args:
        write: makes the script.
        how: where the script goes.
    """

    write: Callable[[list[Words]], str]
    how: str


SHELLS = {
    "bash": Shell(_bash, "byol completion bash > ~/.byol.bash, and in ~/.bashrc: source ~/.byol.bash"),
    "zsh": Shell(_zsh, "byol completion zsh > ~/.byol.zsh, and in ~/.zshrc: source ~/.byol.zsh"),
    "fish": Shell(_fish, "byol completion fish > ~/.config/fish/completions/byol.fish"),
}
