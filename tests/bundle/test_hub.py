"""Bundles on a hub: pushed to and pulled from a local stand-in through the hub's own library."""

import json

import pytest
from bundle_parts import save_detector
from conftest import ROOT, one_line
from hub_stand_in import Hub
from warm_processes import Server

from vindr_det.bundle import Parts, read_bundle, write_bundle
from vindr_det.bundle.files import find, in_folder
from vindr_det.exceptions import InputError

pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A hub that HF_ENDPOINT names, with an empty cache, and processes that imported its library then."""
    hub = Hub()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path_factory.mktemp("cache")),
                           "HF_TOKEN": "right", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}.items():
            patch.setenv(key, value)
        processes = Server()
        yield hub, processes
        processes.close()
    hub.shutdown()


@pytest.fixture
def hub(begun):
    """The hub, with nothing on it."""
    for part in (begun[0].repositories, begun[0].private, begun[0].commits):
        part.clear()
    return begun[0]


@pytest.fixture
def tool(begun):
    """As everywhere, on this hub."""
    return lambda name, *args: begun[1].run([ROOT / "tools" / name, *args])


@pytest.mark.slow
def test_a_bundle_is_pushed_and_pulled_unchanged(hub, tool, tmp_path):
    weights = save_detector(tmp_path / "a.pth", "torchvision", 1)
    pushed = tool("bundle.py", "--weights", weights, "--half", "--out", "hf://user/repo")
    assert pushed.returncode == 0, pushed.stderr
    assert hub.private == {"user/repo": True} and hub.commits == ["user/repo"]
    pulled = tool("bundle.py", "--copy", "hf://user/repo", "--out", tmp_path / "pulled")
    assert pulled.returncode == 0, pulled.stderr
    files = {path.name: path.read_bytes() for path in (tmp_path / "pulled").iterdir()}
    assert files == hub.repositories["user/repo"] and "detector0.safetensors" in files
    assert len(read_bundle(tmp_path / "pulled", "cpu").models.predictors) == 1


@pytest.mark.slow
def test_a_repository_that_was_changed_or_is_not_there_is_refused(hub, tool, tmp_path, monkeypatch):
    write_bundle(tmp_path / "b", Parts([save_detector(tmp_path / "a.pth", "torchvision", 1)]))
    files = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    hub.repositories["user/changed"] = files | {"detector0.yaml": files["detector0.yaml"].replace(b"0.5",
                                                                                                  b"0.6", 1)}
    for place, message in (("hf://user/changed", "detector0.yaml was changed: its SHA-256"),
                           ("hf://user/none", "cannot be pulled (404")):
        line = one_line(tool("bundle.py", "--copy", place, "--out", tmp_path / "pulled"))
        assert place in line and message in line and "Fetching" not in line
        assert ("models--user--changed to fetch it again" in line) == (place == "hf://user/changed")
    assert not (tmp_path / "pulled").exists()
    (tmp_path / "b/README.md").write_text("---\nlibrary_name: another\n---\n# A card that the hub refuses\n")
    line = one_line(tool("bundle.py", "--copy", tmp_path / "b", "--out", "hf://user/refused"))
    assert "cannot be pushed (" in line and "user/refused" not in hub.repositories
    (tmp_path / "b/README.md").write_bytes(files["README.md"])
    monkeypatch.setenv("HF_TOKEN", "wrong")
    line = one_line(tool("bundle.py", "--copy", tmp_path / "b", "--out", "hf://user/new"))
    assert "cannot be pushed (" in line and "401" in line and "user/new" not in hub.repositories


@pytest.mark.parametrize("place", ["hf://", "hf://user", "hf://a/b/c", "hf://a b/c", "hf://user/repo@"])
def test_a_place_on_a_hub_is_user_and_repository(place):
    with pytest.raises(InputError, match="expected hf://user/repo"):
        find(place)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"needs huggingface_hub, which is not installed; pip install "
                                         "huggingface_hub"):
        find("hf://user/repo")


def test_a_name_in_a_manifest_is_never_a_path(tmp_path):
    manifest = {"format": 1, "files": {"../outside": {"bytes": 1, "sha256": "0"}}}
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="expected plain names"):
        in_folder(tmp_path, "b")
