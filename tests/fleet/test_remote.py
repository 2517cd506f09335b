"""Models behind URLs: in memory, of an HTTP server and of an S3 server, all of them here."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import onnx
import pytest
from support.cli import invoke
from support.fleet import save_models

from normswap.cli.one import done
from normswap.fleet import remote


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Do jobs in this process, which has the memory, in a folder of its own."""
    monkeypatch.setattr("normswap.fleet.pool.run", lambda jobs, *how: map(done, jobs))
    monkeypatch.chdir(tmp_path)
    save_models(tmp_path / "m", "a.onnx")
    save_models(tmp_path / "m", "deep/b.onnx", external=True)


@pytest.fixture
def memory(tmp_path):
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    files.put(str(tmp_path / "m"), "/m", recursive=True)
    yield files
    files.store.clear()


def listed(files, folder):
    return sorted(name[len(folder) :] for name in files.find(folder))


def test_a_folder_in_memory_is_mirrored_with_its_data(memory, tmp_path):
    result = invoke("fold", "memory://m", "-o", "memory://out", "--json")
    report = json.loads(result.text)
    assert (result.code, result.err.strip()) == (0, "2 models; no failures")
    assert listed(memory, "/out") == ["/a.onnx", "/deep/b.onnx", "/deep/b.onnx.data"]
    assert "normswap-" not in result.text  # no file goes by its temporary name
    each = {model["model"]: model["report"] for model in report["models"]}
    assert set(each) == {"memory:///m/a.onnx", "memory:///m/deep/b.onnx"}
    deep = each["memory:///m/deep/b.onnx"]
    assert deep["output"] == "memory://out/deep/b.onnx"
    assert [file["path"] for file in deep["inputs"]] == [
        "memory:///m/deep/b.onnx",
        "memory:///m/deep/b.onnx.data",
    ]
    memory.get("/out", str(tmp_path / "out"), recursive=True)
    assert invoke("fold", "m/deep/b.onnx", "-o", "alone.onnx").code == 0
    alone, mirrored = (onnx.load(path) for path in ("alone.onnx", "out/deep/b.onnx"))
    assert alone == mirrored

    again = invoke("fold", "memory://m", "-o", "memory://out")
    assert (
        again.code,
        "memory://out/a.onnx, memory://out/deep/b.onnx already exist" in again.err,
    ) == (
        2,
        True,
    )


def test_a_replaced_model_is_whole_at_every_moment(memory, monkeypatch):
    call = ("fold", "memory://m/deep/b.onnx", "-o", "memory://out/b.onnx", "--force", "--no-check")
    assert invoke(*call).code == 0
    assert listed(memory, "/out") == ["/b.onnx", "/b.onnx.data"]
    before = {name: memory.cat(f"/out{name}") for name in listed(memory, "/out")}
    put = type(memory).put_file

    def broken(self, local, path, *arguments, **how):
        if path.endswith("b.onnx"):
            raise OSError("the line is dead")
        return put(self, local, path, *arguments, **how)

    monkeypatch.setattr(type(memory), "put_file", broken)
    result = invoke(*call)
    assert (
        result.code,
        "memory://out/b.onnx could not be written: the line is dead" in result.text,
    ) == (3, True)
    assert before.items() <= {n: memory.cat(f"/out{n}") for n in listed(memory, "/out")}.items()
    monkeypatch.undo()
    # The data of the model that is there keeps its name until the new model is there.
    monkeypatch.setattr("normswap.fleet.pool.run", lambda jobs, *how: map(done, jobs))
    assert invoke(*call).code == 0
    assert listed(memory, "/out")[0] == "/b.onnx"
    (data,) = listed(memory, "/out")[1:]
    assert data != "/b.onnx.data"


def test_over_http(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "m")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            found = invoke("lint", f"{url}/deep/b.onnx?download=true", "--output", "jsonl")
            report = json.loads(found.text)
            assert (found.code, report["fixable"]) == (1, 2)
            assert report["inputs"][1]["path"].startswith(f"{url}/deep/b.onnx.data")
            absent = invoke("lint", f"{url}/absent.onnx", f"{url}/a.onnx", "--select", "NS1")
            assert absent.code == 3
            assert f"{url}/absent.onnx doesn't exist" in absent.text
            assert f"{url}/a.onnx  2 NS101" in absent.text
            assert invoke("fold", f"{url}/a.onnx").code == 2  # and where to?
            assert invoke("fold", f"{url}/a.onnx", "-o", "got.onnx", "--no-check").code == 0
            assert len(onnx.load("got.onnx").graph.node) == 3
            assert invoke("check", f"{url}/a.onnx", "got.onnx").code == 0
        finally:
            server.shutdown()


def test_in_s3(tmp_path, monkeypatch):
    pytest.importorskip("s3fs", reason="an S3 client takes half a minute to install")
    moto = pytest.importorskip("moto.server", reason="an S3 server takes half a minute to install")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # those of other credentials
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        files = fsspec.filesystem("s3", skip_instance_cache=True)
        files.mkdir("bucket")
        files.put(str(tmp_path / "m"), "bucket/m", recursive=True)
        call = ("fold", "s3://bucket/m/", "-o", "s3://bucket/out", "--no-check", "--resume", "r")
        assert invoke(*call).code == 0
        assert listed(files, "bucket/out") == ["/a.onnx", "/deep/b.onnx", "/deep/b.onnx.data"]
        assert invoke(*call).text.count("unchanged") == 2
        save_models(tmp_path, "other.onnx", layers=3)
        files.put_file("other.onnx", "bucket/m/a.onnx")
        assert [line.endswith("unchanged") for line in invoke(*call).text.splitlines()] == [
            False,
            True,
        ]
        assert "3 NS101" in invoke("lint", "s3://bucket/*/a.onnx", "--select", "NS1").text
    finally:
        server.stop()


def test_what_is_missing_is_said(monkeypatch):
    result = invoke("lint", "nonsense://m.onnx")
    assert (result.code, "nonsense" in result.text) == (2, True)
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    result = invoke("lint", "https://host/m.onnx")
    assert (result.code, "https://host/m.onnx needs the package fsspec" in result.text) == (2, True)


@pytest.mark.parametrize(
    ("place", "expected"),
    [("s3://b/m.onnx", True), ("C:\\m.onnx", False), ("m.onnx", False), ("a/b://c", False)],
)
def test_what_a_url_is(place, expected):
    assert remote.is_url(place) is expected
