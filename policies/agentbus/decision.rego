# The decision: the AND of every module under `data.agentbus.modules`.
#
# A module is a package `agentbus.modules.<name>`. It lets a message pass by defining `allow := true`;
# undefined, false or anything else denies, and so do obligations that cannot be read.
#
# An OPA server evaluates this file. A node joins the same modules in the same way without it
# (`src/policy/rego.rs`), and tests hold the two to the same answers.
package agentbus

import data.agentbus.modules
import data.agentbus.shape

decision := {"allow": allow, "reasons": reasons, "obligations": obligations}

default allow := false

allow if {
	count(names) > 0
	count(denying) == 0
	count(malformed) == 0
}

# A bundle that `agentbus policy build --for opa` made lists its modules. Of each then only what decides is evaluated,
# as in a node: a rule that nothing asks for cannot fail a message.
names := listed if {
	listed := data.agentbus.revision.modules
} else := {name | some name, _ in modules}

# By membership, since OPA lifts a reference out of the expression that `not` negates: with
# `not module.allow == true` an absent `allow` could pass.
allowing contains name if {
	some name in names
	modules[name].allow == true
}

denying contains name if {
	some name in names
	not name in allowing
}

demanded[name] := modules[name].obligations if some name in names

legible contains name if {
	some name in names
	shape.well_formed(object.get(demanded, name, {}))
}

# An obligation that cannot be read cannot be honoured, so it denies.
malformed contains name if {
	count(denying) == 0
	some name in names
	not name in legible
}

reasons := sort(array.concat(denials, [text |
	some name in malformed
	text := sprintf("%s: its obligations are malformed", [name])
]))

denials := [text |
	some name in denying
	some text in reasons_of(name, object.get(given, name, []))
]

given[name] := modules[name].reasons if some name in denying

# A module that denies without a reason of its own is named all the same.
reasons_of(name, given) := texts if {
	texts := [sprintf("%s: %s", [name, text]) | some text in given; is_string(text)]
	count(texts) > 0
} else := [sprintf("%s: denied", [name])]

# Only what is allowed is obliged to anything; `well_formed` has proved the types by then.
default obligations := {}

obligations := object.union_n([deliberate, min_approvals, redact, lane, score, rate, note, freeze, label]) if allow

demands := [demand | some demand in demanded]

deliberate := {"deliberate": true} if {
	some demand in demands
	demand.deliberate
} else := {}

min_approvals := {"min_approvals": max(counts)} if {
	counts := [demand.min_approvals | some demand in demands; demand.min_approvals]
	count(counts) > 0
} else := {}

redact := {"redact": sort(paths)} if {
	paths := {path | some demand in demands; some path in demand.redact}
	count(paths) > 0
} else := {}

lane := {"lane": "durable"} if {
	some demand in demands
	demand.lane
} else := {}

score := {"score": true} if {
	some demand in demands
	demand.score
} else := {}

# Of each module its own, so that each can be held to what it has said.
rate := {"rate": rates} if {
	rates := {name: demand.rate | some name, demand in demanded; demand.rate}
	count(rates) > 0
} else := {}

note := {"note": notes} if {
	notes := {name: demand.note | some name, demand in demanded; demand.note}
	count(notes) > 0
} else := {}

freeze := {"freeze": whys} if {
	whys := {name: demand.freeze | some name, demand in demanded; demand.freeze}
	count(whys) > 0
} else := {}

label := {"label": sort(labels)} if {
	labels := {word | some demand in demands; some word in demand.label}
	count(labels) > 0
} else := {}
