"""What goes into each image: this project's own, and those that tests run as a user's."""

from __future__ import annotations

import configparser
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pfsd.errors import UnavailableError
from pfsd.version import VERSION
from tools.image.archive import Config, Layer, write_archive
from tools.image.build import SITE, Cache, command, digest_of, packed

SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
"""The Debian release whose Python is the one that runs this: what is compiled here has to work there."""
PACKAGES = ("python3", "fuse3", "libfuse3-3", "ca-certificates")
PROGRAMS = {"pfsd": "pfsd.main", "ppsd": "ppsd.main", "pachctl": "tools.pachctl.main"}
OWN_IMAGE = f"pfsd/pfsd:{VERSION}"
OPENCV_IMAGE = "pfsd/opencv:test"
BUSYBOX_IMAGE = "pfsd/busybox:test"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PYTHON = {"PATH": _PATH, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
_SCRIPT = """#!/usr/bin/python3
import sys
from {module} import main
sys.exit(main())
"""
"""Of a program. What pip writes would name the Python of this machine."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A source tree of the project."""

    path: Path

    def requirements(self, extra: str | None = None) -> list[str]:
        """What setup.cfg says the project, or an extra of it, needs."""
        parsed = configparser.ConfigParser()
        parsed.read(self.path / "setup.cfg")
        text = parsed["options.extras_require"][extra] if extra else parsed["options"]["install_requires"]
        return [line.strip() for line in text.splitlines() if line.strip()]

    @property
    def constraints(self) -> Path:
        """The versions that are tested."""
        return self.path / "constraints.txt"


def own(cache: Cache, tree: Tree, target: Path, name: str = OWN_IMAGE) -> None:
    """Write the archive of the project's own image, made of a source tree."""
    layers = [_debian(cache), _python(cache, tree, tree.requirements()), _project(cache, tree)]
    write_archive(target, name, layers, Config(command=("pfsd", "--help"), environment=_PYTHON))


def opencv(cache: Cache, tree: Tree, target: Path) -> None:
    """Write the archive of the image that the tutorial's pipeline runs in: Python with OpenCV."""
    wanted = [line for line in tree.requirements("demo") if line.startswith("opencv")]
    layers = [_debian(cache), _python(cache, tree, wanted)]
    write_archive(target, OPENCV_IMAGE, layers, Config(command=("python3",), environment=_PYTHON))


def busybox(cache: Cache, target: Path) -> None:
    """Write the archive of an image with a shell and the usual commands, and nothing else: no Python, no libraries."""
    program = Path("/bin/busybox")
    if not program.exists():
        command([str(Path(__file__).parents[1] / "debian-packages"), f"busybox-static:{program}"])

    def fill(root: Path) -> None:
        for directory in ("bin", "tmp", "etc"):
            (root / directory).mkdir()
        (root / "tmp").chmod(0o1777)
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        copy = root / "bin" / "busybox"
        copy.write_bytes(program.read_bytes())
        copy.chmod(0o755)
        for applet in subprocess.run(
            [str(program), "--list"], check=True, capture_output=True, text=True
        ).stdout.split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")

    layers = [packed(cache, f"busybox-{digest_of(program.read_bytes())}", fill)]
    write_archive(target, BUSYBOX_IMAGE, layers, Config(command=("sh",), environment={"PATH": "/bin"}))


def _debian(cache: Cache) -> Layer:
    """A minimal Debian with Python and what mounts need."""
    suite = SUITES.get(sys.version_info[:2])
    if suite is None:
        known = " or ".join(f"{major}.{minor}" for major, minor in SUITES)
        raise UnavailableError(
            f"images are made by Python {known}, which Debian has, or by docker from deploy/Dockerfile"
        )

    def fill(root: Path) -> None:
        include = f"--include={','.join(PACKAGES)}"
        command(["debootstrap", "--variant=minbase", include, suite, str(root)])
        for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            command(["find", str(root / waste), "-mindepth", "1", "-delete"])
        command(["find", str(root / "var/log"), "-type", "f", "-delete"])
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for made in ("etc/hostname", "etc/resolv.conf"):
            (root / made).unlink(missing_ok=True)

    return packed(cache, f"debian-{suite}-{digest_of(' '.join(PACKAGES).encode())}", fill)


def _python(cache: Cache, tree: Tree, requirements: list[str]) -> Layer:
    """Python packages from the index, in the tested versions."""
    key = digest_of("\n".join([*requirements, sys.version, tree.constraints.read_text()]).encode())

    def fill(root: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
        command([*pip, "-c", str(tree.constraints), "--target", str(root / SITE), *requirements])
        _compile(root)

    return packed(cache, f"python-{key}", fill)


def _project(cache: Cache, tree: Tree) -> Layer:
    """The project itself: packages, C extensions, programs, the static runner. Never cached: it is what changes."""

    def fill(root: Path) -> None:
        site, programs, build = root / SITE, root / "usr/local/bin", root / "build"
        site.parent.mkdir(parents=True)
        programs.mkdir(parents=True)
        command([sys.executable, "setup.py", "-q", "build", "--build-base", str(build)], directory=tree.path)
        (built,) = build.glob("lib*")
        built.rename(site)
        command(["rm", "-r", str(build)])
        command(["cp", str(site / "ppsd" / "pfs-runner"), str(programs)])
        for name, module in PROGRAMS.items():
            (programs / name).write_text(_SCRIPT.format(module=module))
            (programs / name).chmod(0o755)
        _compile(root)

    return packed(cache, f"project-{digest_of(bytes(tree.path))}", fill, keep=False)


def _compile(root: Path) -> None:
    """Compile every module, for an image may be read-only; the files are never compared, since they never change."""
    done = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command([*done, "-s", str(root), "-p", "/", str(root / SITE)])
