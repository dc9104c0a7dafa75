# shellcheck shell=bash
# What the scripts share: a virtual environment, a Docker engine, images, and a server; each made sure of in seconds
# when it is already there. Sourced, never run. What a script started here is stopped when it ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ENGINE_PID='' SERVER_PID='' STATE=''

say() { echo "==> $*"; }
fail() { echo "${0##*/}: $*" >&2; exit 1; }

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

know_packages() { [ -e "$STATE/known" ] || { apt-get update && touch "$STATE/known"; }; }

install_packages() {
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    { know_packages && apt-get install -y --no-install-recommends "$@"; } >"$STATE/apt.log" 2>&1 ||
        fail "apt-get could not install $*: $(tail -n 3 "$STATE/apt.log")"
}

# need_programs PROGRAM[=PACKAGE]...: what some tests run; where one cannot be had, these tests skip.
need_programs() {
    local each
    for each in "$@"; do
        if command -v "${each%%=*}" >/dev/null; then continue; fi
        if ! may_install || ! (install_packages "${each#*=}"); then
            say "without ${each%%=*}; the tests that need it skip"
        fi
    done
}

# --- a place for logs, and the way out -------------------------------------------------------------------------------

# stop PID: asked first; after half a minute, made to.
stop() {
    [ -n "$1" ] || return 0
    local deadline=$((SECONDS + 30))
    kill "$1" 2>/dev/null || return 0
    while kill -0 "$1" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
    kill -KILL "$1" 2>/dev/null || true
}

leave() {
    stop "$SERVER_PID"
    stop "$ENGINE_PID"
    rm -rf "$STATE"
}

begin() {
    STATE=$(mktemp -d "${TMPDIR:-/tmp}/pupload-scripts.XXXXXX")
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# --- .venv -----------------------------------------------------------------------------------------------------------

python_command() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed; name one in PYTHON"
}

make_venv() {
    local python
    python=$(python_command)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        may_install || fail "$python has no venv module: install your system's python3-venv"
        install_packages python3-venv
    fi
    "$python" -m venv .venv
}

# need_venv EXTRAS: the package, editable, with its extras. Skipped while pyproject.toml says what it said then.
need_venv() {
    local wanted stamp=.venv/.installed
    wanted="$(sha256sum pyproject.toml | cut -d ' ' -f 1) $1"
    if [ -x .venv/bin/pup ] && grep -qs -e "^$wanted" "$stamp"; then return; fi
    say "making .venv with pupload[$1]"
    [ -x .venv/bin/python ] || make_venv
    .venv/bin/python -m pip install -qq --disable-pip-version-check -e ".[$1]"
    grep -sF -e "${wanted% *}" "$stamp" >"$STATE/stamp" || true
    echo "$wanted" >>"$STATE/stamp"
    mv "$STATE/stamp" "$stamp"
}

# need_database_user: as root, PostgreSQL runs as a user that its first start makes; two at once would trip over it.
need_database_user() {
    if [ "$(id -u)" != 0 ] || id pgserver >/dev/null 2>&1; then return; fi
    useradd -s /bin/bash pgserver
}

# --- a Docker engine -------------------------------------------------------------------------------------------------

engine_answers() { .venv/bin/python -c 'import docker; docker.from_env(timeout=10).ping()' >/dev/null 2>&1; }

await_engine() {
    local deadline=$((SECONDS + $1))
    until engine_answers; do
        if [ "$SECONDS" -ge "$deadline" ]; then return 1; fi
        if [ -n "$ENGINE_PID" ] && ! kill -0 "$ENGINE_PID" 2>/dev/null; then return 1; fi
        sleep 0.5
    done
}

# need_engine: an engine that answers. One that ran before is used and stays; one started here ends with the script.
need_engine() {
    if engine_answers; then return; fi
    [ -z "${DOCKER_HOST:-}" ] || fail "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST: start it, or unset DOCKER_HOST"
    [ "$(id -u)" = 0 ] || fail "no Docker engine answers you: start one and join its group (docker), or run this as root"
    if ! command -v dockerd >/dev/null; then
        may_install || fail "no Docker engine here: install one, see https://docs.docker.com/engine/install/"
        install_packages docker.io ca-certificates
        # Where a service manager runs, the package has just started its own engine.
        if await_engine 5; then return; fi
    fi
    start_engine
}

start_engine() {
    say "starting dockerd for this script"
    setsid dockerd >"$STATE/dockerd.log" 2>&1 </dev/null &
    ENGINE_PID=$!
    await_engine 60 || fail "dockerd does not start here: $(tail -n 3 "$STATE/dockerd.log")"
}

need_images() { .venv/bin/python scripts/images.py "$@"; }

# --- a server --------------------------------------------------------------------------------------------------------

# start_server PORT DATA: `pup dev`, ready to be asked; its log is DATA/dev.log.
start_server() {
    local url="http://127.0.0.1:$1" log="$2/dev.log"
    mkdir -p "$2"
    if (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
        fail "something answers at port $1 already: stop it, or choose another with --port"
    fi
    setsid .venv/bin/pup dev --port "$1" --data "$2" >"$log" 2>&1 </dev/null &
    SERVER_PID=$!
    .venv/bin/python scripts/probe.py ready "$url" 60 "$SERVER_PID" ||
        { tail -n 40 "$log" >&2; fail "pup dev did not become ready; the end of $log is above"; }
}
