package config_test

import (
	"os"
	"strings"
	"testing"

	"edged/core/config"
)

func TestSet(t *testing.T) {
	for _, c := range []struct{ name, text, key, value, want string }{
		{"empty file", "", "mqtt.broker", `"tcp://a"`, "[mqtt]\nbroker = \"tcp://a\"\n"},
		{"replaced", "[mqtt]\nbroker = \"x\" # mine\nusername = \"u\"\n", "mqtt.broker", `"tcp://a"`, "[mqtt]\nbroker = \"tcp://a\"\nusername = \"u\"\n"},
		{"below its default", "[mqtt]\n# why\n#broker = \"embedded\"\n\n[model]\n#path = \"\"\n", "mqtt.broker", `"tcp://a"`, "[mqtt]\n# why\n#broker = \"embedded\"\nbroker = \"tcp://a\"\n\n[model]\n#path = \"\"\n"},
		{"below the heading", "[mqtt]\nusername = \"u\"\n[model]\n", "mqtt.broker", `"tcp://a"`, "[mqtt]\nbroker = \"tcp://a\"\nusername = \"u\"\n[model]\n"},
		{"another section's default is not its own", "[mqtt]\n[model]\n#path = \"\"\n[state]\n", "state.dir", `"/s"`, "[mqtt]\n[model]\n#path = \"\"\n[state]\ndir = \"/s\"\n"},
		{"new section", "# mine\n[mqtt]\nusername = \"u\"", "model.path", `"m"`, "# mine\n[mqtt]\nusername = \"u\"\n\n[model]\npath = \"m\"\n"},
		{"list over lines", "[mqtt]\nreply_to_allow = [\n \"a\", # ]\n \"b\",\n]\nusername = \"u\"\n", "mqtt.reply_to_allow", `["c"]`, "[mqtt]\nreply_to_allow = [\"c\"]\nusername = \"u\"\n"},
		{"beside a dotted one", "mqtt.broker = \"x\"\n[model]\n", "mqtt.username", `"y"`, "mqtt.broker = \"x\"\nmqtt.username = \"y\"\n[model]\n"},
		{"dotted", "mqtt.broker = \"x\"\n", "mqtt.broker", `"y"`, "mqtt.broker = \"y\"\n"},
	} {
		got, err := config.Set(c.text, c.key, c.value)
		if err != nil || got != c.want {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", c.name, err, got, c.want)
		}
	}
	if _, err := config.Set("", "mqtt.nonsense", "1"); err == nil {
		t.Error("an unknown key was set")
	}
	// Every key of the file that teaches them can be set in it, once and once more.
	text, err := os.ReadFile("../../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	list, err := config.Explain("../../config.toml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if strings.HasSuffix(s.Key, "_file") || s.Key == "mqtt.username" || s.Key == "adapters.public_keys" || s.Value == `""` || s.Key == "state.dir" {
			continue // two that belong together, or paths that Explain has made absolute
		}
		once, err := config.Set(string(text), s.Key, s.Value)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := config.Set(once, s.Key, s.Value)
		if err != nil || twice != once {
			t.Errorf("%s: set twice it changes again: %v", s.Key, err)
		}
		if _, err := config.Parse("f", []byte(once), nil, nil); err != nil {
			t.Errorf("%s = %s: %v", s.Key, s.Value, err)
		}
	}
}
