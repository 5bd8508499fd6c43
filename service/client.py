"""The HTTP API from Python, with the verbs of the command line.

    from service.client import Client
    with Client("http://site:8420", token) as site:
        job = site.submit(inputs=["ward-7"], vocabulary="wards", out="june")
        for now in site.watch(job["job"]):
            print(now["finished"], "of", now["total"])
        site.mask(job["job"], "a/b.jpg", Path("b.png"))
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx

RETRIES = 4
"""Times that a request is sent again where the site says "later" (429, 503) or cannot be reached."""


LATER = (429, 503)
Objects = list[dict[str, Any]]
"""Within the client `list` is a verb."""
Names = list[str]


class SiteError(Exception):
    """The site refused. code: the stable reason; next_step: what to do; status: of HTTP, 0 without an answer."""

    def __init__(self, status: int, code: str, message: str, next_step: str | None) -> None:
        super().__init__(" ".join(part for part in (message, next_step) if part))
        self.status, self.code, self.message, self.next_step = status, code, message, next_step


class Client:
    """One site. All methods raise SiteError; answers are the JSON of the API as it is."""

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 90.0) -> None:
        """timeout_s: without a sign of the site. `submit`, `sample`, `export`, `verify`, `estimate` and
        `build_vocabulary`, which may take an hour of silence, wait for their answer without end; all but the first two,
        which are known again, are not sent again."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._endless = httpx.Timeout(timeout_s, read=None)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(self, *, inputs: Names, vocabulary: str | dict[str, Any] | None = None,
               free: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """Enters a job with a vocabulary, or without names: `free` holds the fields of FreeRequest ({} for the site's
        language model). options are the other fields of JobRequest (out, backend, model, refine, sample ...).

        Without `out` a name is chosen here, so that a request that is sent again, because its answer was lost, is known
        as the same job."""
        options = {"out": f"job-{secrets.token_hex(4)}"} | options
        return self._json("POST", "/v1/jobs", json=_request(inputs, vocabulary, free, options), timeout=self._endless)

    def estimate(self, *, inputs: Names, vocabulary: str | dict[str, Any] | None = None,
                 free: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """What the job that `submit` would enter would take: pictures and unreadable files are counted, time and room
        reckoned from earlier jobs of the site like it."""
        return self._once("POST", "/v1/jobs/estimate", json=_request(inputs, vocabulary, free, options))

    def sample(self, *, inputs: Names, count: int = 50, **options: Any) -> dict[str, Any]:
        """Enters a job of which so many pictures are done first; look at them, then `resume`. options: those of
        `submit`."""
        return self.submit(inputs=inputs, sample=count, **({"priority": "interactive"} | options))

    def list(self) -> Objects:
        """The newest jobs."""
        return self._json("GET", "/v1/jobs")["jobs"]

    def show(self, job: str) -> dict[str, Any]:
        """One job."""
        return self._json("GET", f"/v1/jobs/{job}")

    def watch(self, job: str) -> Iterator[dict[str, Any]]:
        """The job each time something changed, until it is over. A stream that breaks, or that the site has no room for
        now, is taken up again."""
        broken = 0
        while True:
            try:
                with self._http.stream("GET", f"/v1/jobs/{job}/events") as response:
                    if response.status_code in LATER and broken < RETRIES:
                        broken += 1
                        time.sleep(_patience_s(response))
                        continue
                    self._check(response)
                    event = ""
                    for line in response.iter_lines():
                        if line.startswith("event: "):
                            event = line.removeprefix("event: ")
                        elif line.startswith("data: "):
                            broken = 0
                            yield json.loads(line.removeprefix("data: "))
                            if event == "over":
                                return
            except httpx.TransportError as error:
                broken += 1
                if broken > RETRIES:
                    raise self._unreachable(error) from error
                time.sleep(0.5 * 2 ** broken)

    def pause(self, job: str) -> dict[str, Any]:
        return self._json("POST", f"/v1/jobs/{job}/pause")

    def resume(self, job: str) -> dict[str, Any]:
        return self._json("POST", f"/v1/jobs/{job}/resume")

    def cancel(self, job: str) -> dict[str, Any]:
        return self._json("POST", f"/v1/jobs/{job}/cancel")

    def retry(self, job: str) -> dict[str, Any]:
        """Tries failed pictures again."""
        return self._json("POST", f"/v1/jobs/{job}/retry")

    def verify(self, job: str) -> dict[str, Any]:
        """Whether all files of a job are as they were written; reads every one of them."""
        return self._once("POST", f"/v1/jobs/{job}/verify")

    def items(self, job: str, **filters: Any) -> Iterator[dict[str, Any]]:
        """The pictures of a job by name; filters: state, code, prefix."""
        after = ""
        while True:
            page = self._json("GET", f"/v1/jobs/{job}/items", params={**filters, "after": after})
            yield from page["items"]
            if page["next"] is None:
                return
            after = page["next"]

    def item(self, job: str, name: str) -> dict[str, Any]:
        """One picture of a job."""
        return self._json("GET", f"/v1/jobs/{job}/item", params={"name": name})

    def told(self, job: str, name: str) -> dict[str, Any] | None:
        """What is said of a picture in a job without names, with its priors; None as long as nothing is said."""
        item = self.item(job, name)
        return item["told"] or (item["result"] or {}).get("told")

    def mask(self, job: str, name: str, to: Path, kind: str = "mask") -> None:
        """Saves the mask of a picture, or its `overlay` or `confidence`."""
        self._save(f"/v1/jobs/{job}/files/{kind}", {"name": name}, to)

    def upload(self, folder: str, picture: Path, name: str | None = None) -> dict[str, Any]:
        """Sends a picture; name `folder` among a job's inputs afterwards. Or a file of descriptions, whose name ends in
        .jsonl: FOLDER/NAME is then `descriptions` of a job without names."""
        return self._json("PUT", f"/v1/uploads/{folder}/{name or picture.name}", content=picture.read_bytes())

    def uploads(self, folder: str) -> Names:
        """Names of the pictures that arrived in a folder."""
        return self._json("GET", f"/v1/uploads/{folder}")["names"]

    def segment(self, picture: Path, *, classes: str | None = None, vocabulary: str | None = None,
                candidate_free: bool = False, **options: str) -> dict[str, Any]:
        """One picture now, for names or for what the site's language model says of it; the answer holds its mask as a
        PNG file in base64."""
        given = {"classes": classes, "vocabulary": vocabulary, "candidate_free": candidate_free or None, **options}
        return self._json("POST", "/v1/segment", content=picture.read_bytes(),
                          params={name: value for name, value in given.items() if value is not None})

    def export(self, job: str, format: str, to: Path, **options: Any) -> dict[str, Any]:
        """Has an export written and saves its files into a folder."""
        found = self._once("POST", f"/v1/jobs/{job}/exports", json={"format": format, **options})
        for path in found["files"]:
            self._save(f"/v1/jobs/{job}/exports/{format}", {"path": path}, to / path)
        return found

    def vocabularies(self) -> Names:
        """Names of the stored vocabularies."""
        return self._json("GET", "/v1/vocabularies")["names"]

    def vocabulary(self, name: str) -> dict[str, Any]:
        """A stored vocabulary."""
        return self._json("GET", f"/v1/vocabularies/{name}")

    def write_vocabulary(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        """Stores a vocabulary, in the place of one that is not frozen."""
        return self._json("PUT", f"/v1/vocabularies/{name}", json=content)

    def build_vocabulary(self, name: str, *, subclasses: int = 7, clusters: bool = False) -> dict[str, Any]:
        """Lets the site's language model add to a stored vocabulary; takes seconds for each class."""
        return self._once("POST", f"/v1/vocabularies/{name}/build", json={"subclasses": subclasses,
                                                                          "clusters": clusters})

    def freeze_vocabulary(self, name: str) -> dict[str, Any]:
        """From now on it stays as it is."""
        return self._json("POST", f"/v1/vocabularies/{name}/freeze")

    def remove_vocabulary(self, name: str) -> None:
        """Takes away one that is not frozen."""
        self._json("DELETE", f"/v1/vocabularies/{name}")

    def _once(self, method: str, path: str, **given: Any) -> Any:
        """What takes long, and would only meet itself if it were sent again while the site still does it."""
        return self._json(method, path, repeats=0, timeout=self._endless, **given)

    def _json(self, method: str, path: str, *, repeats: int = RETRIES, **given: Any) -> Any:
        """repeats: times that it is sent again where no answer comes."""
        for attempt in range(RETRIES + 1):
            try:
                response = self._http.request(method, path, **given)
            except httpx.TransportError as error:
                if attempt >= repeats:
                    raise self._unreachable(error) from error
                time.sleep(0.2 * 2 ** attempt)
                continue
            if response.status_code not in LATER or attempt == RETRIES:
                break
            time.sleep(_patience_s(response))
        self._check(response)
        return response.json() if response.content else None

    def _unreachable(self, error: Exception) -> SiteError:
        return SiteError(0, "unreachable", f"{self._http.base_url} does not answer: {error}.",
                         "Check the address, and that lexiseg serve runs.")

    def _save(self, path: str, params: dict[str, str], to: Path) -> None:
        with self._http.stream("GET", path, params=params) as response:
            self._check(response)
            to.parent.mkdir(parents=True, exist_ok=True)
            part = to.with_name(f".{to.name}.part")
            with part.open("wb") as file:
                for piece in response.iter_bytes():
                    file.write(piece)
            part.replace(to)

    @staticmethod
    def _check(response: httpx.Response) -> None:
        if response.is_success:
            return
        response.read()
        try:
            error = response.json()["error"]
            raise SiteError(response.status_code, error["code"], error["message"], error.get("next_step"))
        except (ValueError, KeyError, TypeError):
            raise SiteError(response.status_code, "http", response.text[:300] or response.reason_phrase, None) from None


def _request(inputs: Names, vocabulary: str | dict[str, Any] | None, free: dict[str, Any] | None,
             options: dict[str, Any]) -> dict[str, Any]:
    """The body of a JobRequest."""
    named = {"vocabulary": vocabulary} if free is None else {"free": free}
    return {"inputs": inputs, **named, **options}


def _patience_s(response: httpx.Response) -> float:
    """Seconds until the site is asked again: what it says itself, at most five."""
    return min(5.0, float(response.headers.get("Retry-After", "1")))
