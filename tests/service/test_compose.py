"""compose.yaml: valid, closed to the outside, without secrets, and of images that are named by digest."""

from __future__ import annotations

import importlib.resources
import json
import re
import shlex
import subprocess

import jsonschema
import pytest
import yaml

from tests.compose import REPOSITORY, image_of_program, read_compose

DIGEST = "sha256:" + "0" * 64
VARIABLES = {"LEXISEG_IMAGE": f"lexiseg@{DIGEST}", "POSTGRES_IMAGE": f"postgres@{DIGEST}",
             "RABBITMQ_IMAGE": f"rabbitmq@{DIGEST}", "VLLM_IMAGE": f"vllm/vllm-openai@{DIGEST}",
             "MODELS_DIR": "/srv/models", "PICTURES_DIR": "/srv/pictures"}
OURS = ("api", "dispatch", "gpu", "llm", "export")


@pytest.fixture(scope="module")
def document():
    return read_compose(VARIABLES)


@pytest.mark.parametrize("filled", [False, True], ids=["as it is", "with its variables"])
def test_it_is_valid_by_the_schema_of_the_compose_specification(document, filled):
    schema = json.loads(importlib.resources.files("check_jsonschema").joinpath(
        "builtin_schemas", "vendor", "compose-spec.json").read_text(encoding="utf-8"))
    content = document if filled else yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))
    check = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{list(error.path)}: {error.message}" for error in check.iter_errors(content)] == []
    assert not check.is_valid(content | {"services": {"api": {"comand": "x"}}})  # the schema looks at what is inside


@pytest.mark.parametrize("name", [name for name in VARIABLES if name.endswith("_IMAGE") or name.endswith("_DIR")])
def test_images_and_folders_have_no_default(name):
    with pytest.raises(KeyError, match=name):
        read_compose({key: value for key, value in VARIABLES.items() if key != name})
    assert f"{name}=" in (REPOSITORY / "deploy" / "images.env.example").read_text(encoding="utf-8")


def test_every_image_is_given_from_outside_and_the_program_is_built_on_one_by_digest(document):
    text = (REPOSITORY / "compose.yaml").read_text(encoding="utf-8")
    assert {service["image"] for service in document["services"].values()} == {
        value for name, value in VARIABLES.items() if name.endswith("_IMAGE")}
    assert re.findall(r"image: (?!\$\{[A-Z_]+_IMAGE:\?)\S+", text) == []
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
    assert "\nARG PYTHON_IMAGE\n" in dockerfile


def test_only_the_api_can_be_reached_and_nothing_reaches_out(document):
    services, networks = document["services"], document["networks"]
    assert networks["inside"] == {"internal": True}
    assert networks["entrance"]["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    assert [name for name, service in services.items() if "ports" in service] == ["api"]
    assert services["api"]["ports"] == ["127.0.0.1:8420:8420"]
    assert {name: service["networks"] for name, service in services.items() if service["networks"] != ["inside"]} == {
        "api": ["inside", "entrance"]}
    assert not [name for name, service in services.items() if "network_mode" in service or "privileged" in service]


def test_the_language_model_fetches_nothing_and_takes_one_picture(document):
    words = shlex.split(document["services"]["vllm"]["command"])
    assert words[words.index("--allowed-media-domains") + 1].endswith(".invalid")
    assert words[words.index("--limit-mm-per-prompt") + 1] == '{"image": 1}'
    assert document["services"]["vllm"]["environment"]["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"


def test_every_service_has_a_health_check_limits_and_time_to_stop(document):
    for name, service in document["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= limits.keys(), name
        assert service["healthcheck"]["test"][0] == "CMD" and service["stop_grace_period"].endswith("s"), name
        assert service["restart"] == "unless-stopped" and "max-size" in service["logging"]["options"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_gpus_are_reserved_and_models_cannot_be_written(document):
    services = document["services"]
    for name in ("gpu", "vllm"):
        assert services[name]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    for name in (*OURS, "vllm"):
        mounts = {mount["target"]: mount for mount in services[name]["volumes"]}
        assert mounts["/models"]["read_only"] is True, name
    for name in OURS:
        assert services[name]["read_only"] is True and services[name]["cap_drop"] == ["ALL"]
        assert services[name]["user"] == "10001:10001"
        assert services[name]["volumes"][0]["target"] == "/var/lib/lexiseg"


def test_there_is_no_secret_in_the_file_and_none_in_an_environment(document):
    for service in document["services"].values():
        for name, value in service.get("environment", {}).items():
            assert not re.search(r"PASS|SECRET|KEY|TOKEN", name) or name.endswith("_FILE"), name
            assert not re.search(r"://[^/]*:[^/]*@", str(value)), name
    assert all(set(secret) == {"file"} for secret in document["secrets"].values())
    ignored = (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "secrets/" in ignored and ".env" in ignored


def test_secrets_are_made_once_differ_and_fit_together(tmp_path):
    def make(folder):
        subprocess.run(["sh", REPOSITORY / "deploy" / "secrets.sh", folder], check=True)
        return {path.name: path.read_text() for path in folder.iterdir()}

    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    assert first.keys() == {"ledger_url", "broker_url", "postgres_password", "rabbitmq.conf"}
    assert make(tmp_path / "a") == first and not set(first.values()) & set(second.values())
    assert first["postgres_password"].strip() in first["ledger_url"]
    password = first["broker_url"].split(":")[2].split("@")[0]
    assert len(password) == 48 and f"default_pass = {password}" in first["rabbitmq.conf"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_the_image_runs_the_command_as_a_user_of_its_own():
    entry, environment = image_of_program()
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    assert entry == ["lexiseg"] and "USER 10001:10001" in text
    assert environment["HF_HUB_OFFLINE"] == "1" and environment["LEXISEG_MODELS"] == "/models"
    assert re.search(r"(?i)password|token|secret", text) is None
