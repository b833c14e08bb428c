# No keys, tokens or passwords in messages, but to the agents that are there to keep them (`secrets_to`).
#
# Content and metadata are looked at as one JSON text, keys included. All patterns run in a time that grows with the
# text's length and no faster. A reason never repeats what was found.
package agentbus.modules.no_secrets_out

patterns := {
	"an AWS access key": `(AKIA|ASIA)[0-9A-Z]{16}`,
	"a private key": `-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY`,
	"a JSON web token": `eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8}`,
	"a GitHub token": `(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22})`,
	"a GitLab token": `glpat-[A-Za-z0-9_-]{20}`,
	"a Slack token": `xox[abeoprs]-[A-Za-z0-9-]{10}`,
	"a Stripe key": `[rs]k_(live|test)_[A-Za-z0-9]{16}`,
	"a Google API key": `AIza[A-Za-z0-9_-]{35}`,
	# A text in a text, or below a key. Numbers do not count: OPA and a node do not write them alike.
	"a password": concat("", [
		`(?i)(password|passwd|secret|api[_-]?key|access[_-]?token)`,
		`(":"|(\\"|')? {0,4}[:=] {0,4}(\\"|')?)[^ '"\\,}\]\[{*<>&$]{6}`,
	]),
}

default allow := false

allow if input.recipient.id in keepers

allow if {
	is_string(text)
	count(found) == 0
}

keepers := {id |
	some part in split(object.get(input.tenant.labels, "secrets_to", ""), ",")
	id := trim_space(part)
	id != ""
}

text := json.marshal([input.message.content, input.message.metadata])

found contains name if {
	some name, pattern in patterns
	regex.match(pattern, text)
}

reasons contains reason if {
	not allow
	some name in found
	reason := sprintf("the message holds %s; send the name it is kept under, or list the recipient in secrets_to", [name])
}
