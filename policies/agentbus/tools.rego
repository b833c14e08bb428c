# Which role may ask for which tool. A tool is a word for what the recipient is asked to do, or a name with such
# words in it, as agents have them: `send_email`, `mcp__fs__write_file`, `deleteRow`.
#
# Words only raise: a name needs what each word of the table in it needs. A name that is not understood
# (`book_flight`, `read_and_wire_money`) needs a role that may execute; with the tenant's label
# `tools_unknown` set to `denied` nobody may ask for it. Every agent may ask for what the label `tools_allowed` lists.
package agentbus.modules.tools

everyone := {"read", "get", "list", "view"}

granted := {
	"executive": {"send", "submit", "write", "update", "modify", "transfer"},
	"controller": {"send", "submit", "write", "update", "modify", "execute", "delete"},
	"implementer": {"send", "submit", "write", "update", "modify", "execute"},
}

# Words that say what something is done to, or where, and so change nothing: `read_file` is `read`. The same as
# in the score (`src/impact/signals/tools.rs`).
things := {
	"account", "accounts", "all", "api", "balance", "by", "calendar", "contact", "contacts",
	"customer", "customers", "database", "date", "db", "details", "directories", "directory",
	"document", "documents", "email", "emails", "entries", "entry", "event", "events", "file", "files",
	"filesystem", "flight", "flights", "folder", "folders", "for", "from", "fs", "github", "hotel",
	"hotels", "http", "id", "ids", "in", "inbox", "info", "issue", "issues", "item", "items", "mail",
	"mcp", "memory", "message", "messages", "name", "names", "note", "notes", "of", "order", "orders",
	"page", "pages", "path", "product", "products", "record", "records", "report", "reports", "row",
	"rows", "server", "slack", "sql", "status", "table", "tables", "the", "ticket", "tickets", "time",
	"to", "tool", "tools", "user", "users", "weather", "web",
}

# Whatever else they stand with, no other word makes more of these.
strongest := {"submit", "write", "execute", "delete", "transfer"}

table := everyone | {word | some types in granted; some word in types}

default allow := false

# Most messages ask for nothing.
allow if count(input.message.tools) == 0

allow if {
	count(input.message.tools) > 0
	every tool in input.message.tools { permitted(tool) }
}

refused contains tool if {
	some tool in input.message.tools
	not permitted(tool)
}

# Without regular expressions, which take milliseconds to make ready.
marks := {
	"-": "_", ":": "_", ".": "_", "0": "_", "1": "_", "2": "_", "3": "_",
	"4": "_", "5": "_", "6": "_", "7": "_", "8": "_", "9": "_",
}

capitals := {
	"A": "_a", "B": "_b", "C": "_c", "D": "_d", "E": "_e", "F": "_f", "G": "_g",
	"H": "_h", "I": "_i", "J": "_j", "K": "_k", "L": "_l", "M": "_m", "N": "_n",
	"O": "_o", "P": "_p", "Q": "_q", "R": "_r", "S": "_s", "T": "_t", "U": "_u",
	"V": "_v", "W": "_w", "X": "_x", "Y": "_y", "Z": "_z",
}

# `bookFlight`, `book-flight` and `book.flight2` are two words each.
words := {tool: parts |
	some tool in input.message.tools
	parts := {word | some word in split(strings.replace_n(capitals, strings.replace_n(marks, tool)), "_")}
}

# Capitals hide no word: `DELETE` is `delete`.
shouted := {tool: parts |
	some tool in input.message.tools
	parts := {word | some word in split(lower(strings.replace_n(marks, tool)), "_")}
}

asked(tool) := (words[tool] | shouted[tool]) & table

understood(tool) if count(asked(tool) & strongest) > 0

understood(tool) if {
	count(asked(tool)) > 0
	count((words[tool] - table) - (things | {""})) == 0
}

may := everyone | {word | some role in input.sender.roles; some word in granted[role]}

lacking(tool) := asked(tool) - may

# Words of the table by themselves need no parting.
permitted(tool) if tool in may

permitted(tool) if {
	not tool in table
	tool in allowed
}

permitted(tool) if {
	not tool in table
	count(lacking(tool)) == 0
	understood(tool)
}

permitted(tool) if {
	not tool in table
	count(lacking(tool)) == 0
	"execute" in may
	unknown_like_execute
}

# A label that says anything else denies.
unknown_like_execute if not input.tenant.labels.tools_unknown

unknown_like_execute if input.tenant.labels.tools_unknown == "execute"

allowed := {tool |
	some tool in split(replace(object.get(input.tenant.labels, "tools_allowed", ""), " ", ""), ",")
	tool != ""
}

holders(word) := concat(", ", [role | some role, tools in granted; word in tools])

reasons contains text if {
	some tool in refused
	tool in table
	text := sprintf("the tool %s needs one of the roles %s", [tool, holders(tool)])
}

reasons contains text if {
	some tool in refused
	not tool in table
	some word in lacking(tool)
	text := sprintf("the tool %s asks to %s, which needs one of the roles %s%s", [tool, word, holders(word), remedy])
}

reasons contains text if {
	some tool in refused
	count(lacking(tool)) == 0
	text := sprintf("the tool %s is unknown, which needs one of the roles %s%s", [tool, holders("execute"), remedy])
}

# What the operator adds to let every agent ask for all that was refused, in what a reason has room for.
default remedy := "; or list it in tools_allowed of the tenant's labels"

remedy := text if {
	line := concat(", ", sort(allowed | (refused - table)))
	count(line) <= 80
	text := sprintf(`; or, in tenants.%s.labels: tools_allowed = "%s"`, [input.tenant.id, line])
}
