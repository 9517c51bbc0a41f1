"""What goes into each image: this project's own, and those that tests run as a user's."""

from __future__ import annotations

import configparser
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pfsd.errors import UnavailableError
from pfsd.version import VERSION
from tools.commands import run
from tools.imagefiles.archive import Config, Layer, write_archive
from tools.imagefiles.build import SITE, Cache, digest_of, packed

SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
"""The Debian release whose Python is the one that runs this: what is compiled here has to work there."""
PACKAGES = ("python3", "fuse3", "ca-certificates")
UNWANTED = """
find var/cache/apt var/lib/apt/lists usr/share/man usr/share/locale -mindepth 1 -delete
find usr/share/doc var/log -type f ! -name copyright -delete
rm -f etc/hostname etc/resolv.conf
ln -s /usr/bin/python3 usr/local/bin/python
"""
"""Shell commands that make of what debootstrap leaves what an image needs; licences stay."""
PROGRAMS = {"pfsd": "pfsdaemon.main", "ppsd": "ppsd.main", "pachctl": "pachctl.main"}
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
    """Write the archive of the project's own image, made of a source tree; it can speak to every store."""
    required = [*tree.requirements(), *tree.requirements("gs"), *tree.requirements("as")]
    layers = [_debian(cache), _python(cache, tree, required), _project(cache, tree)]
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
        _install(f"busybox-static:{program}")

    def fill(root: Path) -> None:
        for directory in ("bin", "tmp", "etc"):
            (root / directory).mkdir()
        (root / "tmp").chmod(0o1777)
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        shutil.copy(program, root / "bin" / "busybox")
        for applet in run([str(program), "--list"]).split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")

    layers = [packed(cache, f"busybox-{digest_of(program.read_bytes())}", fill)]
    write_archive(target, BUSYBOX_IMAGE, layers, Config(command=("sh",), environment={"PATH": "/bin"}))


def _install(package: str) -> None:
    """Have a package of Debian's on this machine, given with what proves that it is there, as NAME:PROOF."""
    run([str(Path(__file__).parents[1] / "debian-packages"), package])


def _debian(cache: Cache) -> Layer:
    """A minimal Debian with Python and what mounts need."""
    suite = SUITES.get(sys.version_info[:2])
    if suite is None:
        known = " or ".join(f"{major}.{minor}" for major, minor in SUITES)
        raise UnavailableError(
            f"images are made by Python {known}, which Debian has, or by docker from deploy/Dockerfile"
        )

    def fill(root: Path) -> None:
        _install("debootstrap:debootstrap")
        include = f"--include={','.join(PACKAGES)}"
        run(["debootstrap", "--variant=minbase", include, suite, str(root)])
        run(["sh", "-ec", UNWANTED], directory=root)

    return packed(cache, f"debian-{suite}-{digest_of(' '.join((*PACKAGES, UNWANTED)).encode())}", fill)


def _python(cache: Cache, tree: Tree, requirements: list[str]) -> Layer:
    """Python packages from the index, in the tested versions."""
    key = digest_of("\n".join([*requirements, sys.version, tree.constraints.read_text()]).encode())

    def fill(root: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
        run([*pip, "-c", str(tree.constraints), "--target", str(root / SITE), *requirements])
        _compile(root)

    return packed(cache, f"python-{key}", fill)


def _project(cache: Cache, tree: Tree) -> Layer:
    """The project itself: packages, C extensions, programs, the static runner. Never cached: it is what changes."""

    def fill(root: Path) -> None:
        site, programs, build = root / SITE, root / "usr/local/bin", root / "build"
        site.parent.mkdir(parents=True)
        programs.mkdir(parents=True)
        run([sys.executable, "setup.py", "-q", "build", "--build-base", str(build)], directory=tree.path)
        (built,) = build.glob("lib*")
        built.rename(site)
        shutil.rmtree(build)
        shutil.copy(site / "ppsd" / "worker" / "pfs-runner", programs)
        for name, module in PROGRAMS.items():
            (programs / name).write_text(_SCRIPT.format(module=module))
            (programs / name).chmod(0o755)
        _compile(root)

    return packed(cache, f"project-{digest_of(bytes(tree.path))}", fill, keep=False)


def _compile(root: Path) -> None:
    """Compile every module, for an image may be read-only; the files are never compared, since they never change."""
    done = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    run([*done, "-s", str(root), "-p", "/", str(root / SITE)])
