# Sourced by scripts/run and scripts/test: the virtual environment in .venv with an editable, built nodeplane. POSIX sh.

# environment_stamp: what the environment depends on; another value means that it has to be brought up to date.
environment_stamp() {
    {
        python3 -c 'import sys; print(sys.version, sys.base_prefix)'
        pwd
        echo "${NODEPLANE_BUILD:-release}"
        cat pyproject.toml setup.py fastpath/*.pyx fastpath/*.pxd fastpath/*.h
    } | sha256sum
}

# need_environment: make or renew .venv if the stamp differs.
need_environment() {
    # Many processes are going to be started: their modules are compiled once, also where the caller's settings forbid it.
    unset PYTHONDONTWRITEBYTECODE
    PYTHONPYCACHEPREFIX=$PWD/.cache/bytecode
    export PYTHONPYCACHEPREFIX
    stamp=$(environment_stamp)
    [ "$(cat .venv/stamp 2> /dev/null)" != "$stamp" ] || return 0
    wanted=$(python3 -c 'import sys; print(sys.version_info[:2])')
    if [ "$(.venv/bin/python -c 'import pip, sys; print(sys.version_info[:2])' 2> /dev/null)" != "$wanted" ]; then
        say "making .venv"
        rm -rf .venv
        python3 -m venv .venv < /dev/null || die "the virtual environment could not be made"
    fi
    rm -f .venv/stamp
    say "installing into .venv (the first time this takes a minute or two)"
    # The build requirements go into the environment, so that `python setup.py build_ext --inplace` works in it, too.
    .venv/bin/python - > .venv/requirements << 'END' || die "pyproject.toml cannot be read"
import tomllib
with open("pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["build-system"]["requires"]))
END
    pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install -q --no-input"
    $pip -r .venv/requirements >&2 < /dev/null || die "pip could not install the build requirements"
    $pip --no-build-isolation -e '.[test,bench]' >&2 < /dev/null || die "pip could not install nodeplane"
    if [ "${NODEPLANE_BUILD:-release}" = pure ]; then
        # Takes away what another mode has built in place.
        .venv/bin/python setup.py -q build_ext --inplace >&2 || die "the compiled modules could not be removed"
    else
        NODEPLANE_FASTPATH=baseline .venv/bin/python -c 'import fastpath.framing' || die "fastpath was not built"
    fi
    printf '%s\n' "$stamp" > .venv/stamp
}
