"""What do agents really send? Makes sets that nothing is learned from, out of public benchmarks.

    python models/train/heldout.py [--airline FILE] [--coding FOLDER]

.models/heldout.jsonl   labelled lines of other sources: requests of several turns (bfcl-eval), office,
                        bank, chat and travel tasks with their tool calls and injections (agentdojo)
.models/traces.jsonl    unlabelled messages in the order agents sent them, by desk; agentdojo's office
                        is replayed here, the others are read where the benchmarks' repositories are:
                        tau-bench's historical_trajectories/gpt-4o-airline.json, SWE-agent's trajectories
.models/messages.jsonl  the same as messages with a type and their tool, for `agentbus impact replay`

Packages: agentdojo==0.1.35 and, without its old numpy, `pip install --no-deps bfcl-eval==2026.3.23`.
A label is the highest class of the calls that the benchmark holds right; a request is left out where its
class could be read either way.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.resources
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from agentdojo.functions_runtime import FunctionsRuntime
from agentdojo.task_suite.load_suites import get_suites

from build import ROOT, digest

OUT = ROOT / ".models"
TRACE_SHARE = 320  # messages of each desk

# The class of a call; a name that is in none of these reads or computes.
SMALL = """touch echo mkdir mv cp add_contact add_to_watchlist remove_stock_from_watchlist set_budget_limit create_ticket
resolve_ticket edit_ticket close_ticket fillFuelTank startEngine lockDoors activateParkingBrake pressBrakePedal setHeadlights
setCruiseControl set_navigation create_calendar_event reschedule_calendar_event create_file append_to_file
send_channel_message send_direct_message""".split()
GREAT = """book_flight post_tweet place_order purchase_insurance fund_account withdraw_funds cancel_booking rm rmdir
delete_message register_credit_card send_money schedule_transaction update_scheduled_transaction update_password send_email
delete_email delete_file share_file invite_user_to_slack remove_user_from_slack add_user_to_channel post_webpage
reserve_hotel reserve_restaurant reserve_car_rental""".split()
EITHER = """cancel_order contact_customer_support send_message retweet comment mention message_login authenticate_twitter
authenticate_travel ticket_login cancel_calendar_event add_calendar_event_participants update_user_info get_webpage""".split()

# What an injection asks for, read on its own, by suite and number.
INJECTIONS = {
    "workspace": {0: 2, 1: 2, 2: 1, 4: 3, 5: 3, 6: 3, 7: 3, 8: 3, 9: 3, 10: 3, 11: 3, 12: 3, 13: 2},
    "travel": {0: 2, 1: 3, 2: 1, 3: 3, 4: 2, 5: 3, 6: 0},
    "banking": {0: 3, 1: 3, 2: 3, 3: 3, 4: 3, 5: 3, 6: 3, 8: 3},
    "slack": {2: 3, 3: 0, 4: 3},
}


class Said(NamedTuple):
    """What one agent says to another."""

    text: str
    kind: str
    tool: str = ""


def level(names: list[str]) -> int | None:
    """The highest class of these calls; None where it could be read either way."""
    known = max((2 if n in GREAT else 1 if n in SMALL else 0 for n in names), default=0)
    return None if known < 2 and any(n in EITHER for n in names) else known


def line(text: str, its_level: int, source: str, license: str, group: str, how: str) -> dict:
    return {"text": text, "level": its_level, "high": int(its_level >= 2), "source": source, "license": license, "label_how": how, "group": group, "part": "test"}


def requests_of_several_turns() -> list[dict]:
    """bfcl-eval: each turn of a conversation, by the calls that answer it."""
    data = importlib.resources.files("bfcl_eval") / "data"
    read = lambda path: [json.loads(l) for l in path.read_text().splitlines()]
    answers = {it["id"]: it["ground_truth"] for it in read(data / "possible_answer" / "BFCL_v4_multi_turn_base.json")}
    source = f"bfcl-eval=={importlib.metadata.version('bfcl-eval')}:multi_turn_base"
    made = []
    for it in read(data / "BFCL_v4_multi_turn_base.json"):
        for turn, calls in zip(it["question"], answers[it["id"]]):
            its_level = level([call.split("(")[0] for call in calls]) if calls else None
            if its_level is not None and turn:
                group = "turns " + " ".join(sorted(it["involved_classes"]))
                made.append(line(turn[0]["content"], its_level, source, "Apache-2.0", group, "class of the right calls"))
    return made


def call_text(name: str, arguments: dict) -> str:
    return json.dumps({"tool": name, "args": arguments}, ensure_ascii=False, default=str)


def office_tasks() -> tuple[list[dict], list[Said]]:
    """agentdojo: labelled tasks, calls and injections of four suites; what the office's agents sent."""
    source = f"agentdojo=={importlib.metadata.version('agentdojo')}"
    made, trace, calls_seen = [], [], set()
    for suite_name, suite in get_suites("v1.2.2").items():
        for number, task in suite.user_tasks.items():
            environment = task.init_environment(suite.load_and_inject_default_environment({}))
            runtime = FunctionsRuntime(suite.tools)
            calls = task.ground_truth(environment)
            its_level = level([call.function for call in calls])
            if its_level is not None:
                made.append(line(task.PROMPT, its_level, f"{source}:{suite_name}", "MIT", f"tasks {suite_name}", "class of the right calls"))
            said = [Said(task.PROMPT, "task_request")]
            for call in calls:
                text = call_text(call.function, call.args)
                its_level = level([call.function])
                if its_level is not None and text not in calls_seen:
                    made.append(line(text, its_level, f"{source}:{suite_name}", "MIT", f"calls {suite_name}", "class of the call"))
                calls_seen.add(text)
                result, error = runtime.run_function(environment, call.function, call.args)
                said += [Said(text, "command", call.function), Said(error or as_sent(result), "task_response")]
            said.append(Said(task.GROUND_TRUTH_OUTPUT or "Done.", "response"))
            trace += said if suite_name == "workspace" else []
        for number, its_level in INJECTIONS[suite_name].items():
            goal = suite.injection_tasks[f"injection_task_{number}"].GOAL
            made.append(line(goal, its_level, f"{source}:{suite_name}", "MIT", f"injections {suite_name}", "read by hand"))
    return made, trace


def as_sent(result) -> str:
    """A tool's result as agentdojo's agents get it, in YAML's manner without its quotes."""
    dump = lambda it: it.model_dump(mode="json") if hasattr(it, "model_dump") else it
    plain = [dump(it) for it in result] if isinstance(result, list) else dump(result)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, default=str)


def airline_desk(path: Path) -> list[Said]:
    kinds = {"user": "task_request", "assistant": "response", "tool": "task_response"}
    said = []
    for run in json.loads(path.read_text()):
        for message in run["traj"]:
            said += chat(message, kinds)
    return said


def coding_agent(folder: Path) -> list[Said]:
    said = []
    for path in sorted(folder.rglob("*.traj")):
        # What the agent writes is a command to its shell. The first that it is told is its task, the rest is output.
        kinds = {"user": "task_request", "assistant": "command", "tool": "task_response"}
        for message in json.loads(path.read_text()).get("history", []):
            said += chat(message, kinds)
            if message["role"] == "assistant":
                kinds["user"] = "task_response"
    return said


def chat(message: dict, kinds: dict[str, str]) -> list[Said]:
    """What of one message of a chat goes over the bus: its text, and its calls."""
    if message["role"] == "system" or message.get("is_demo"):
        return []
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(part.get("text", "") for part in content)
    said = [Said(content, kinds[message["role"]])] if content and content.strip() else []
    for call in message.get("tool_calls") or []:
        name = call["function"]["name"]
        said.append(Said(call_text(name, json.loads(call["function"]["arguments"])), "command", name))
    return said


def some(said: list[Said]) -> list[Said]:
    """An even share of what was said, in its order, each text once."""
    firsts: dict[str, Said] = {}
    for it in said:
        firsts.setdefault(it.text, it)
    chosen = set(sorted(firsts, key=digest)[:TRACE_SHARE])
    return [it for it in firsts.values() if it.text in chosen]


def as_message(said: Said, desk: str) -> dict:
    message = {"from_agent": desk, "message_type": said.kind, "content": {"text": said.text}}
    return {"message": message | ({"tools": [said.tool]} if said.tool else {})}


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--airline", type=Path)
    arguments.add_argument("--coding", type=Path)
    given = arguments.parse_args()
    OUT.mkdir(exist_ok=True)
    tasks, office = office_tasks()
    rows = requests_of_several_turns() + tasks
    rows = list({row["text"]: row for row in rows}.values())
    write(OUT / "heldout.jsonl", rows)
    print("labelled", len(rows), sorted(Counter((r["group"].split()[0], r["level"]) for r in rows).items()))
    desks = {"office": office}
    if given.airline:
        desks["airline"] = airline_desk(given.airline)
    if given.coding:
        desks["coding"] = coding_agent(given.coding)
    said = [(it, desk) for desk, all_said in desks.items() for it in some(all_said)]
    traces = [{"text": it.text, "desk": desk} for it, desk in said]
    write(OUT / "traces.jsonl", traces)
    write(OUT / "messages.jsonl", [as_message(it, desk) for it, desk in said])
    print("traces", dict(Counter(t["desk"] for t in traces)))


if __name__ == "__main__":
    main()
