"""Everything that is checked here, each in its own environment: `nox -l` lists it, `nox -s lint` runs one."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "typing", "tests"]

DOCS_TESTS = [f"tests/test_docs{part}.py" for part in ("", "_names", "_python", "_tutorial")]
PYPROJECT = nox.project.load_toml("pyproject.toml")


def install_with_group(session: nox.Session, group: str, *packages: str) -> None:
    session.install(*packages, *nox.project.dependency_groups(PYPROJECT, group))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    install_with_group(session, "lint")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """mypy --strict over the package, the tests, the benchmarks and the examples."""
    install_with_group(session, "typing", "-e", ".[test]")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Every suite that can run here; the last lines name the others."""
    session.install("-e", ".[test]")
    session.run("pytest", *(session.posargs or ("-n", "auto", "--dist", "loadfile")))


@nox.session
def interop(session: nox.Session) -> None:
    """Against the original programs and real brokers; an error, not a shorter run, where one of them is missing."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "interop or brokers", *session.posargs, env={"CI": "true"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """tests/fuzz with many random examples; a failure prints the blob that reproduces it."""
    session.install("-e", ".[test]")
    session.run("pytest", "tests/fuzz", *session.posargs, env={"HYPOTHESIS_PROFILE": "fuzz"})


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks: `nox -s bench -- --help`. Rivals need Node.js and npm, and are left out without them."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Builds docs/ into docs/_build/html, warnings being errors, and runs what is in the pages."""
    install_with_group(session, "docs", "-e", ".[test]")
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-q", "docs", "docs/_build/html")
    session.run("pytest", *DOCS_TESTS, *session.posargs)
