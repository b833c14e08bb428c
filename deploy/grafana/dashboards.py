#!/usr/bin/env python3
"""Which panels do the dashboards have? Said here, a line each, and written as Grafana reads it.

  deploy/grafana/dashboards.py            write fleet.json, tenants.json and deliberation.json
  deploy/grafana/dashboards.py --check    exit 1 if one of them is not what would be written

Needs Python 3.9 and nothing else. `%s` of an expression is the choice of nodes.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Of a panel; three beside each other fill Grafana's 24 columns.
WIDTH, HEIGHT, COLUMNS = 8, 7, 24
NODES = 'instance=~"$instance"'


def rate(metric, by="", labels=""):
    return f"sum by ({by}) (rate({metric}{{{labels}%s}}[$__rate_interval]))"


def quantiles(metric, by=""):
    grouped = f"{by}, le" if by else "le"
    rates = f"sum by ({grouped}) (rate({metric}_bucket{{%s}}[$__rate_interval]))"
    name = f"{{{{{by}}}}} " if by else ""
    return [(f"histogram_quantile({q}, {rates})", f"{name}P{int(float(q) * 100)}") for q in ("0.5", "0.99")]


def each(*metrics):
    """Events a second, one line for each metric."""
    return [(rate(metric), metric.removeprefix("agentbus_").removesuffix("_total")) for metric in metrics]


# title, unit, expressions with their legends
FLEET = [
    ("Is it well?", [
        ("Nodes that are ready", "short", [("sum(agentbus_ready{%s})", "ready"), ("count(agentbus_ready{%s})", "there")]),
        ("Parts that are not up", "short", [("agentbus_part_healthy{%s} == 0", "{{instance}} {{part}}"), ("agentbus_part_cause{%s} == 1", "{{instance}} {{part}}, for a reason of its own")]),
        ("Requests that fail at the bus", "percentunit", [("agentbus:failed:ratio5m", "5 min"), ("agentbus:failed:ratio1h", "1 h")]),
        ("Version", "short", [("sum by (version) (agentbus_build_info{%s})", "{{version}}")]),
        ("NATS and Redis", "short", [("agentbus_nats_connected{%s}", "NATS {{instance}}"), ("agentbus_store_healthy{%s}", "Redis {{instance}}")]),
        ("Memory used of what there may be", "percentunit", [("agentbus_memory_used_ratio{%s}", "{{instance}}")]),
        ("Clock ahead of a server's", "s", [("agentbus_clock_ahead_seconds{%s}", "{{instance}} {{source}}")]),
    ]),
    ("Requests", [
        ("Requests", "reqps", [(rate("agentbus_requests_total", "verb"), "{{verb}}")]),
        ("From a request to its verdict", "s", quantiles("agentbus_request_seconds", "verb")),
        ("In each stage", "s", quantiles("agentbus_stage_seconds", "stage")),
        ("In flight", "short", [("agentbus_in_flight{%s}", "{{instance}}"), ("agentbus_requests_places{%s}", "{{instance}} places")]),
        ("Waiting for a place", "short", [("agentbus_requests_waiting{%s}", "{{instance}}")]),
        ("Deliveries", "ops", each("agentbus_deliveries_total", "agentbus_missed_total", "agentbus_repeats_total", "agentbus_takeovers_total")),
        ("What should stay 0", "ops", each(
            "agentbus_request_panics_total", "agentbus_requests_unanswered_total", "agentbus_requests_dropped_total", "agentbus_requests_malformed_total",
            "agentbus_headers_unreadable_total", "agentbus_records_dropped_total", "agentbus_nats_slow_consumer_total")),
    ]),
    ("NATS, Redis, policy", [
        ("Connections of agents ended", "ops", [(rate("agentbus_connections_ended_total", "why"), "{{why}}")]),
        ("Records not acknowledged", "short", [("agentbus_records_unconfirmed{%s}", "{{instance}}")]),
        ("Connections to NATS made anew", "ops", each("agentbus_nats_reconnects_total")),
        ("Breakers that are open", "short", [("sum by (kind) (agentbus_breakers_open{%s})", "{{kind}}")]),
        ("Breakers that opened", "ops", [(rate("agentbus_breaker_opened_total", "kind"), "{{kind}}")]),
        ("Calls not made for an open breaker", "ops", [(rate("agentbus_breaker_refused_total", "kind"), "{{kind}}")]),
        ("Values in Redis that no node wrote", "ops", [(rate("agentbus_state_forged_total", "kind"), "{{kind}}")]),
        ("Policy decisions", "ops", [
            (rate("agentbus_policy_decisions_total", "source"), "{{source}}"),
            *each("agentbus_policy_denied_total", "agentbus_policy_unavailable_total", "agentbus_policy_failed_total")]),
        ("Answers that nodes share", "ops", [(rate("agentbus_policy_shared_total", "outcome"), "{{outcome}}")]),
        ("Policy in force", "short", [("count by (revision) (agentbus_policy_info{%s})", "{{revision}}"), ("sum(agentbus_policy_refused{%s})", "refused")]),
        ("Policies read", "ops", [(rate("agentbus_policy_loads_total", "outcome"), "{{outcome}}")]),
        ("Decisions logged", "ops", [(rate("agentbus_policy_log_total", "outcome"), "{{outcome}}")]),
        ("A candidate beside the policy", "ops", [(rate("agentbus_policy_shadow_total", "outcome"), "{{outcome}}"), ("sum(agentbus_policy_shadow_judging{%s})", "nodes on which one judges")]),
        ("OPA servers that are asked", "short", [("agentbus_opa_up{%s}", "{{instance}} {{server}}")]),
        ("Requests to OPA servers", "ops", [(rate("agentbus_opa_requests_total", "outcome"), "{{outcome}}"), *each("agentbus_policy_instead_of_opa_total")]),
        ("Time of a request to OPA", "s", quantiles("agentbus_opa_request_seconds")),
    ]),
    ("The process", [
        ("Processor", "percentunit", [("rate(process_cpu_seconds_total{%s}[$__rate_interval])", "{{instance}}")]),
        ("Memory", "bytes", [("process_resident_memory_bytes{%s}", "{{instance}}"), ("process_virtual_memory_bytes{%s}", "{{instance}} addresses")]),
        ("Files", "short", [("process_open_fds{%s}", "{{instance}}"), ("process_max_fds{%s}", "{{instance}} at most")]),
        ("Since its start", "s", [("time() - process_start_time_seconds{%s}", "{{instance}}")]),
        ("Told to the OTLP collector, and not", "ops", [
            (rate("agentbus_otlp_exported_total", "signal"), "{{signal}}"), (rate("agentbus_otlp_dropped_total", "why"), "dropped {{why}}")]),
        ("HTTP connections", "short", [("agentbus_http_connections{%s}", "{{instance}}")]),
        ("HTTP connections closed by the node", "ops", [(rate("agentbus_http_closed_total", "why"), "{{why}}"), *each("agentbus_http_not_accepted_total")]),
    ]),
    ("Threads", [
        ("Waiting for a thread for computing", "short", [("agentbus_cpu_queue{%s}", "{{instance}}")]),
        ("Time waited for one", "s", quantiles("agentbus_cpu_wait_seconds")),
        ("Time computed", "s", quantiles("agentbus_cpu_run_seconds", "work")),
        ("Not computed", "ops", each("agentbus_cpu_skipped_total", "agentbus_cpu_refused_total", "agentbus_cpu_panics_total")),
        ("Polls of more than 200 µs", "ops", [(rate("agentbus_long_polls_total", "task"), "{{task}}")]),
        ("Longest poll, and P99", "s", [
            ("max by (task) (agentbus_longest_poll_seconds{%s})", "{{task}}"), quantiles("agentbus_poll_seconds", "task")[1]]),
    ]),
]

TENANTS = [
    ("What senders hear", [
        ("Verdicts", "reqps", [(rate("agentbus_requests_total", "status"), "{{status}}")]),
        ("Reasons of what is refused", "reqps", [(rate("agentbus_requests_total", "reason", 'status=~"rejected|shed", '), "{{reason}}")]),
        ("Messages that say they are of somebody else", "reqps", [(rate("agentbus_requests_total", "reason", 'reason=~"tenant_mismatch|sender_mismatch", '), "{{reason}}")]),
        ("At a tenant's bounds", "reqps", [(rate("agentbus_requests_total", "reason", 'reason=~"rate_limited|quota_exceeded|store_full|too_many_parked|overloaded", '), "{{reason}}")]),
        ("Tenants in the directory", "short", [("max(agentbus_tenants{%s})", "tenants")]),
        ("Fullest stream of a tenant", "percentunit", [("max by (kind) (agentbus_streams_filled{%s})", "{{kind}}")]),
    ]),
    ("The durable lane", [
        ("Waiting, all tenants", "short", [("max(agentbus_lane_waiting{%s})", "waiting"), ("sum(agentbus_lane_in_hand{%s})", "in hand")]),
        ("From being kept to the outcome", "s", quantiles("agentbus_lane_seconds")),
        ("Taken, taken again, given back", "ops", each("agentbus_lane_pulled_total", "agentbus_lane_redelivered_total", "agentbus_lane_given_back_total")),
        ("Given up", "ops", each("agentbus_lane_dead_letters_total", "agentbus_lane_unburied_total", "agentbus_lane_unburied_of_share_total", "agentbus_lane_panics_total")),
        ("Place in durable inboxes that is given back", "Bps", [(rate("agentbus_inbox_released_bytes_total"), "bytes")]),
        ("The same, in messages", "ops", each("agentbus_inbox_released_total", "agentbus_inbox_receipts_total", "agentbus_inbox_receipts_refused_total")),
        ("In durable inboxes and not settled", "short", [("max(agentbus_inbox_unsettled{%s})", "messages")]),
    ]),
]

DELIBERATION = [
    ("People decide", [
        ("Parked and decided", "ops", [*each("agentbus_parked_total", "agentbus_escalated_total"), (rate("agentbus_decided_total", "judgement"), "{{judgement}}")]),
        ("From parking to the decision", "s", quantiles("agentbus_decision_seconds")),
        ("Votes", "ops", [(rate("agentbus_votes_total", "result"), "{{result}}")]),
        ("Could not be parked", "reqps", [(rate("agentbus_requests_total", "reason", 'reason=~"no_reviewers|too_many_parked|deliberation_unavailable", '), "{{reason}}")]),
        ("Thresholds that learn", "ops", [(rate("agentbus_threshold_changes_total", "direction"), "{{direction}}"), *each("agentbus_threshold_lessons_lost_total")]),
        ("Fullest log of deliberations", "percentunit", [('max(agentbus_streams_filled{kind="deliberations", %s})', "filled")]),
    ]),
    ("The webhook", [
        ("Calls", "ops", [(rate("agentbus_webhook_calls_total", "outcome"), "{{outcome}}")]),
        ("Time of a call", "s", quantiles("agentbus_webhook_call_seconds")),
        ("Events that it is not told", "ops", [(rate("agentbus_webhook_dropped_total", "why"), "{{why}}")]),
    ]),
    ("The impact model", [
        ("Asked, known, not needed", "ops", each(
            "agentbus_model_not_needed_total", "agentbus_model_cache_hits_total", "agentbus_model_cache_misses_total", "agentbus_model_audited_total")),
        ("Not scored", "ops", [(rate("agentbus_model_unscored_total", "why"), "{{why}}"), *each("agentbus_model_skipped_total")]),
        ("What should stay 0", "ops", each("agentbus_model_differed_total", "agentbus_model_restarts_total")),
        ("Waiting for the model", "short", [("agentbus_model_queue{%s}", "{{instance}}")]),
        ("Waited, and run", "s", quantiles("agentbus_model_wait_seconds") + quantiles("agentbus_model_run_seconds")),
        ("Texts together, and tokens", "short", [*quantiles("agentbus_model_batch"), *each("agentbus_model_tokens_total")]),
    ]),
    ("Guards", [
        ("Waiting for a guard", "short", [("sum by (guard) (agentbus_guard_queue{%s})", "{{guard}}")]),
        ("Waited, and run", "s", quantiles("agentbus_guard_wait_seconds", "guard") + quantiles("agentbus_guard_run_seconds", "guard")),
        ("Known, and not", "ops", [
            (rate("agentbus_guard_cache_hits_total", "guard"), "{{guard}} known"), (rate("agentbus_guard_cache_misses_total", "guard"), "{{guard}} not")]),
        ("Tokens, and texts nobody waited for", "ops", [
            (rate("agentbus_guard_tokens_total", "guard"), "{{guard}} tokens"), (rate("agentbus_guard_skipped_total", "guard"), "{{guard}} skipped")]),
        ("Panics", "ops", [(rate("agentbus_guard_restarts_total", "guard"), "{{guard}}")]),
    ]),
]

DASHBOARDS = {"fleet": FLEET, "tenants": TENANTS, "deliberation": DELIBERATION}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panel(number, title, unit, expressions, place):
    targets = [
        {"refId": chr(ord("A") + index), "expr": expression.replace("%s", NODES), "legendFormat": legend, "datasource": SOURCE}
        for index, (expression, legend) in enumerate(expressions)
    ]
    return {
        "id": number, "type": "timeseries", "title": title, "datasource": SOURCE, "gridPos": place, "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def panels(rows):
    made, y = [], 0
    for heading, members in rows:
        made.append({"id": len(made) + 1, "type": "row", "title": heading, "collapsed": False, "panels": [],
                     "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}})
        y += 1
        for index, (title, unit, expressions) in enumerate(members):
            x = index * WIDTH % COLUMNS
            made.append(panel(len(made) + 1, title, unit, expressions, {"x": x, "y": y, "w": WIDTH, "h": HEIGHT}))
            if x + WIDTH == COLUMNS or index == len(members) - 1:
                y += HEIGHT
    return made


def variables():
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {"name": "instance", "label": "Node", "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1,
         "query": {"query": "label_values(agentbus_ready, instance)", "refId": "nodes"},
         "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}},
    ]


def dashboard(name, rows):
    return {
        "uid": f"agentbus-{name}", "title": f"agentbus: {name}", "tags": ["agentbus"], "schemaVersion": 39, "editable": True,
        "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "",
        "templating": {"list": variables()}, "annotations": {"list": []}, "links": [], "panels": panels(rows),
    }


def main():
    check = sys.argv[1:] == ["--check"]
    if not check and sys.argv[1:]:
        sys.exit(__doc__)
    stale = []
    for name, rows in DASHBOARDS.items():
        path = HERE / f"{name}.json"
        text = json.dumps(dashboard(name, rows), indent=1, ensure_ascii=False) + "\n"
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not what dashboards.py writes: {', '.join(stale)}; run deploy/grafana/dashboards.py")


if __name__ == "__main__":
    main()
