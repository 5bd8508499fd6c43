"""The room itself: its names, how fast it is there, and that it stays at home."""

import os
import subprocess
import sys

import agents


def test_public_names_are_exactly_these():
    assert agents.__all__ == [
        "Answer", "Assignment", "CallSettings", "Clustering", "Description", "KnowledgeSource", "LanguageModel",
        "Partition", "Picture", "PicturePriors", "Plan", "Presence", "Store", "Subclasses", "assign_clusters",
        "check_presence", "cluster_categories", "describe_image", "extract_priors", "generate_subclasses", "make_tools",
        "open_model", "open_store", "tell_picture",
    ]
    assert all(hasattr(agents, name) for name in agents.__all__)


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})


def test_importing_needs_no_heavy_package_and_opens_no_connection():
    done = run_python("""
import sys
events = []
sys.addaudithook(lambda event, arguments: events.append(event) if event.startswith("socket.") else None)
import agents, agents.clusters, agents.description, agents.source, agents.subclasses, agents.vocabulary
heavy = {"langchain_core", "langchain_openai", "langgraph", "openai", "torch", "transformers", "spacy"}
print(sorted(heavy & set(sys.modules)), events)
""")
    assert done.stdout == "[] []\n", done.stderr


def test_the_libraries_are_told_to_stay_at_home_before_they_are_imported():
    done = run_python("""
import os
os.environ.update(LANGSMITH_TRACING="true", LANGCHAIN_TRACING_V2="true", LANGGRAPH_STRICT_MSGPACK="false")
import sys
events = []
leaving = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
sys.addaudithook(lambda event, arguments: events.append(event) if event in leaving else None)
import agents.endpoint, agents.tools
from langsmith.utils import tracing_is_enabled
print(tracing_is_enabled(), os.environ["LANGGRAPH_STRICT_MSGPACK"], events)
""")
    assert done.stdout == "False true []\n", done.stderr


def test_counting_tokens_stays_at_home(model):
    """The client's own counting downloads a table; nothing here calls it."""
    from pathlib import Path

    for path in Path(agents.__file__).parent.rglob("*.py"):
        assert "get_num_tokens" not in path.read_text(encoding="utf-8"), path
