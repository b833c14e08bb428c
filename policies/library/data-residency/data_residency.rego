# In which regions a tenant's messages may be received, by its labels. An agent is in a region by a role, `region_eu`,
# or by its id in a label: both are the operator's word, and no agent can claim either.
package agentbus.modules.data_residency

default allow := false

# Tenants without the label.
allow if {
	is_object(input.tenant.labels)
	not input.tenant.labels.residency_regions
}

allow if {
	some role in input.recipient.roles
	role in roles
}

allow if input.recipient.id in listed(input.tenant.labels.residency_agents)

# Classes that may leave. A message without a class stays.
allow if input.message.metadata.data_class in exempt

listed(text) := {word | some part in split(text, ","); word := trim_space(part); word != ""}

roles := {role |
	some region in listed(lower(input.tenant.labels.residency_regions))
	role := concat("_", ["region", region])
}

exempt := listed(input.tenant.labels.residency_exempt_classes)

reasons contains text if {
	not allow
	count(roles) > 0
	text := sprintf("the recipient has none of the roles %s of residency_regions, and is not in residency_agents", [
		concat(", ", sort(roles)),
	])
}

reasons contains "the label residency_regions names no region, expected a list such as eu,uk" if {
	input.tenant.labels.residency_regions
	count(roles) == 0
}
