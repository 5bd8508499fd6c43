"""A whole site over HTTP: a real server process, real workers, the pocket model."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from parsers.files import sha256_file
from service.client import Client, SiteError
from tests import servers
from tests.integration.conftest import PATIENCE_S, REPOSITORY
from tests.llm_server import llm_server

pytestmark = pytest.mark.integration


@contextmanager
def serving(tmp_path: Path, **environment: str) -> Iterator[Client]:
    """`lexiseg serve` as a process of its own."""
    port = servers.free_port()
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from service.cli import main; main()", "serve", "--port", str(port)],
            cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=log,
            env=os.environ | {"LEXISEG_DATA": str(tmp_path / "data"), "LEXISEG_API_SEGMENT_TIMEOUT_S": str(PATIENCE_S),
                              **environment})
    try:
        servers.wait_for(port, process, PATIENCE_S)
        with Client(f"http://127.0.0.1:{port}", timeout_s=PATIENCE_S) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """One pictogram scene."""
    from vision.datasets.pictograms import PictogramDataset

    path = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray(PictogramDataset(count=1, seed=5).scene(0).image_HW3).save(path)
    return path


def test_upload_submit_watch_read_export(site, tmp_path, scene):
    here = site()
    with serving(tmp_path) as client, here.up():
        for name in ("a.png", "b.png"):
            client.upload("ward-7", scene, name)
        client.write_vocabulary("wards", {"classes": [{"id": 1, "name": "dog"}, {"id": 2, "name": "grass"},
                                                      {"id": 3, "name": "sand"}]})
        job = client.submit(inputs=["ward-7"], vocabulary="wards", out="june", overlay=True)
        seen = list(client.watch(job["job"]))
        assert seen[-1]["state"] == "done" and seen[-1]["finished"] == 2
        items = list(client.items(job["job"], state="done"))
        assert [item["name"] for item in items] == ["a.png", "b.png"]
        client.mask(job["job"], "a.png", tmp_path / "mask.png")
        assert sha256_file(tmp_path / "mask.png") == items[0]["result"]["mask_sha256"]
        client.mask(job["job"], "a.png", tmp_path / "overlay.jpg", kind="overlay")
        Image.open(tmp_path / "overlay.jpg").load()
        whole = client.verify(job["job"])
        assert whole["whole"] and whole["files"] > 4 and not whole["damaged"] and not whole["strange"]
        found = client.export(job["job"], "coco", tmp_path / "coco")
        assert found["images"] == 2 and all((tmp_path / "coco" / path).is_file() for path in found["files"])
        with pytest.raises(SiteError) as refused:
            client.mask(job["job"], "c.png", tmp_path / "c.png")
        assert refused.value.code == "file-missing" and refused.value.next_step

        now = client.segment(scene, classes="dog, grass, sand")
        mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(now["mask_png"]))))
        assert (mask == np.asarray(Image.open(tmp_path / "mask.png"))).all()
        assert [job["out"] for job in client.list()] == ["june"]  # the job of one picture leaves nothing behind
        assert not list((tmp_path / "data" / "outputs").glob(".now-*"))
    assert "Traceback" not in (tmp_path / "serve.log").read_text()


def test_without_names_by_the_language_model_of_the_site_and_by_descriptions(site, tmp_path, scene):
    here = site()
    with llm_server() as llm:
        def answer(request):
            text = request["messages"][-1]["content"][-1]["text"]
            return '{"answer": "yes"}' if text.startswith("Is there") else "A red dog stands on the grass."

        llm.answer = answer
        with serving(tmp_path, LEXISEG_LLM=llm.url, LEXISEG_STORE=str(tmp_path / "s.sqlite")) as client, here.up():
            client.upload("ward-7", scene, "a.png")
            job = client.submit(inputs=["ward-7"], free={"max_calls": 50}, out="free")
            *_, last = client.watch(job["job"])
            assert (last["state"], last["described"], last["llm_calls"]) == ("done", 1, 3)
            told = client.told(job["job"], "a.png")
            assert told["presence"] == {"dog": True, "grass": True}
            now = client.segment(scene, candidate_free=True)
            assert now["classes"] == {"0": "background", "1": "dog", "2": "grass"}
            asked = [llm.question(call) for call in range(llm.calls)]
            assert sum(not text.startswith("Is there") for text in asked) == 1, "the store knew the picture"
            assert client.list()[0]["out"] == "free"
            said = tmp_path / "said.jsonl"
            said.write_text(json.dumps(told) + "\n")
            client.upload("ward-7", said)
            again = client.submit(inputs=["ward-7"], free={"descriptions": "ward-7/said.jsonl"})
            *_, last = client.watch(again["job"])
            assert (last["state"], last["llm_calls"]) == ("done", 0)
            for name in (job["job"], again["job"]):
                client.mask(name, "a.png", tmp_path / f"{name}.png")
            assert (tmp_path / f"{job['job']}.png").read_bytes() == (tmp_path / f"{again['job']}.png").read_bytes()


def test_without_a_worker_one_picture_times_out_and_says_what_to_do(site, tmp_path, scene):
    site()
    with serving(tmp_path, LEXISEG_API_SEGMENT_TIMEOUT_S="1") as client:
        with pytest.raises(SiteError) as slow:
            client.segment(scene, classes="dog")
        assert slow.value.status == 504 and "lexiseg up" in slow.value.next_step
        assert client.list() == []


def test_a_body_that_never_ends_and_a_head_that_lies(site, tmp_path):
    site()
    with serving(tmp_path, LEXISEG_API_MAX_UPLOAD="100000", LEXISEG_API_MAX_BODY="10000") as client:
        place = urlsplit(str(client._http.base_url))

        def send(head: str, pieces: Iterable[bytes]) -> bytes:
            """What the server answers; it may end the connection before all is sent."""
            with socket.create_connection((place.hostname, place.port), timeout=PATIENCE_S) as connection:
                connection.sendall(f"{head}\r\nHost: site\r\nContent-Type: application/json\r\n\r\n".encode())
                for piece in pieces:
                    connection.sendall(piece)
                    if select.select([connection], [], [], 0.05)[0]:
                        break
                return connection.recv(1000)

        start = b"\x89PNG\r\n\x1a\n"
        endless = itertools.chain([b"8\r\n" + start + b"\r\n"], itertools.repeat(b"2710\r\n" + bytes(10_000) + b"\r\n"))
        upload = "PUT /v1/uploads/a/{}.png HTTP/1.1\r\n{}"
        assert send(upload.format("a", "Transfer-Encoding: chunked"), endless).startswith(b"HTTP/1.1 413")
        # more is announced than may come, and nothing of it comes before the answer
        assert send(upload.format("b", "Content-Length: 200000"), [start, bytes(100_000)]).startswith(b"HTTP/1.1 413")
        # less is announced than comes: what is too much is no part of the picture, and no request of its own
        assert send(upload.format("c", "Content-Length: 16"), [start + bytes(100)]).startswith(b"HTTP/1.1 201")
        assert client.uploads("a") == ["c.png"]
        assert (tmp_path / "data" / "uploads" / "a" / "c.png").read_bytes() == start + bytes(8)
        too_much = b"{" + b" " * 20_000 + b"}"
        assert send(f"POST /v1/jobs HTTP/1.1\r\nContent-Length: {len(too_much)}", [too_much]).startswith(
            b"HTTP/1.1 413")
        assert client._json("GET", "/health/live")["state"] == "alive"
        assert [path.name for path in (tmp_path / "data" / "uploads").rglob("*") if path.is_file()] == ["c.png"]
    assert "defect" not in (tmp_path / "serve.log").read_text()


def test_many_ask_at_once_and_everybody_gets_an_answer(site, tmp_path, pictures):
    site()
    with serving(tmp_path, LEXISEG_API_ROOTS=str(pictures)) as client:
        job = client.submit(inputs=["."], vocabulary={"classes": [{"id": 1, "name": "dog"}]})["job"]
        number, together = 100, threading.Barrier(100)

        def ask(_: int) -> int:
            with httpx.Client(base_url=client._http.base_url, timeout=PATIENCE_S, trust_env=False) as http:
                together.wait(PATIENCE_S)
                return http.get(f"/v1/jobs/{job}").status_code

        with ThreadPoolExecutor(number) as pool:
            assert list(pool.map(ask, range(number))) == [200] * number
