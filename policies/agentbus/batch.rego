# METADATA
# description: |
#   Many questions in one request: what a node asks an OPA server, at `POST /v1/data/agentbus/batch`.
#   `input.questions` holds the input of each under a key that the node chose, and `answers` the decision under the
#   same key.
# schemas:
#   - input: {"type": "object", "properties": {"questions": {"type": "object"}}}
package agentbus.batch

answers[key] := object.union(decision, {"reasons": short(decision.reasons)}) if {
	some key, question in input.questions
	decision := data.agentbus.decision with input as question
}

# As many as a node keeps: a module may quote what a stranger wrote.
short(reasons) := [substring(reason, 0, 256) | some reason in array.slice(reasons, 0, 16)]

# By which policy: `agentbus policy build --for opa` writes it into the bundle, and a node believes no answer without it.
revision := data.agentbus.revision.id
