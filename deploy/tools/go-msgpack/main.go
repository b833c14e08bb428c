// Reads a message as JSON and writes it as MessagePack, in hexadecimal, one way of writing a line.
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"github.com/vmihailenco/msgpack/v5"
)

func main() {
	var message map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&message); err != nil {
		panic(err)
	}
	// encoding/json has made floats of all numbers.
	show("vmihailenco/msgpack", message, false)
	message["created_at"] = int64(message["created_at"].(float64))
	show("vmihailenco/msgpack int64", message, false)
	show("vmihailenco/msgpack compact", message, true)
}

func show(name string, message map[string]any, compact bool) {
	var out bytes.Buffer
	encoder := msgpack.NewEncoder(&out)
	encoder.UseCompactInts(compact)
	if err := encoder.Encode(message); err != nil {
		panic(err)
	}
	fmt.Printf("%s\t%s\n", name, hex.EncodeToString(out.Bytes()))
}
