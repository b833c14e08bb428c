package no_secrets_out_test

import data.agentbus.modules.no_secrets_out as module

holds(content) := {
	"message": {"content": content, "metadata": {}},
	"recipient": {"id": "worker"},
	"tenant": {"id": "acme", "labels": {}},
}

says(text) := holds({"text": text})

times(text, count_of) := concat("", [each | some _ in numbers.range(1, count_of); each := text])

# Put together here, so that no scanner takes this file for a leak.
secrets := {
	"an AWS access key": concat("", ["AKIA", times("Z9", 8)]),
	"a private key": concat("", ["-----BEGIN RSA PRIV", "ATE KEY-----\nMIIE"]),
	"a JSON web token": concat(".", [concat("", ["eyJ", times("a", 20)]), concat("", ["eyJ", times("b", 20)]), times("c", 20)]),
	"a GitHub token": concat("", ["gh", "p_", times("a1", 18)]),
	"a GitLab token": concat("", ["gl", "pat-", times("x_", 10)]),
	"a Slack token": concat("", ["xo", "xb-", times("12", 8)]),
	"a Stripe key": concat("", ["sk", "_live_", times("aB", 12)]),
	"a Google API key": concat("", ["AI", "za", times("a-bcd", 7)]),
	"a password": "password=correct-horse",
}

test_plain_words_are_allowed if {
	every text in [
		"hello", "", "the password is forgotten", "AKIA is a prefix", "see eyJ", "secret: yes",
		"100 tokens",
	] {
		module.allow with input as says(text)
	}
}

test_every_kind_is_found if {
	object.keys(secrets) == object.keys(module.patterns)
	every name, secret in secrets {
		not module.allow with input as says(secret)
		module.found == {name} with input as says(secret)
	}
}

test_the_reason_names_the_kind_and_never_repeats_it if {
	every name, secret in secrets {
		module.reasons == {concat("", [
			sprintf("the message holds %s; ", [name]),
			"send the name it is kept under, or list the recipient in secrets_to",
		])} with input as says(secret)
	}
}

test_it_is_found_beside_other_text if {
	every secret in secrets {
		not module.allow with input as says(concat("", ["first line\nuse ", secret, " for it\n"]))
		not module.allow with input as says(concat("", ["\n", secret]))
	}
}

test_it_is_found_at_any_depth_and_in_keys if {
	every secret in secrets {
		not module.allow with input as holds({"a": [1, {"b": [[secret]]}]})
		not module.allow with input as holds({secret: true})
	}
}

test_it_is_found_in_metadata if {
	given := object.union(says("hello"), {"message": {"metadata": {"note": secrets["a GitHub token"]}}})
	not module.allow with input as given
}

test_a_field_that_is_named_so_is_found if {
	every content in [
		{"password": "hunter22"}, {"api_key": "abcdef123"}, {"db": {"PASSWORD": "hunter22"}},
		{"text": "{\"secret\": \"hunter22\"}"}, {"text": "API-KEY : hunter22"}, {"client_secret": "hunter22"},
		{"text": "{'passwd': 'hunter22'}"}, {"access_token": "123456789"},
	] {
		not module.allow with input as holds(content)
	}
}

test_what_is_blotted_out_passes if {
	every content in [
		{"password": "******"}, {"password": null}, {"password": 123456789}, {"password": 1e30},
		{"password": ""}, {"text": "password=<redacted>"}, {"text": "password=${DB_PASSWORD}"},
	] {
		module.allow with input as holds(content)
	}
}

test_a_length_below_is_no_key if {
	module.allow with input as says(concat("", ["AKIA", times("Z", 15)]))
	module.allow with input as says(concat("", ["gh", "p_", times("a", 35)]))
}

test_keepers_may_get_them if {
	kept := object.union(says(secrets["a password"]), {"tenant": {"labels": {"secrets_to": "vault, worker"}}})
	module.allow with input as kept
	not module.allow with input as object.union(kept, {"recipient": {"id": "work"}})
}

test_long_and_odd_texts_are_read if {
	every text in [
		times("eyJ", 4000), times("password", 2000), times("-----BEGIN ", 1000),
		times("\"\\", 2000), "\u0000\u2028",
	] {
		module.allow with input as says(text)
	}
}

test_odd_content_is_read if {
	every content in [{}, [], null, 7, {"n": 1e300, "b": [true, null, -0.5]}] {
		module.allow with input as holds(content)
	}
}

test_a_keeper_gets_no_reasons if {
	kept := object.union(says(secrets["a password"]), {"tenant": {"labels": {"secrets_to": "worker"}}})
	module.reasons == set() with input as kept
	nobody := object.union(says(secrets["a password"]), {"recipient": {"id": ""}, "tenant": {"labels": {"secrets_to": ","}}})
	not module.allow with input as nobody
}

test_without_input_it_is_denied if {
	every given in [{}, {"message": {}}, {"message": {"content": {}}}, {"message": {"metadata": {}}}] {
		not module.allow with input as given
	}
}
