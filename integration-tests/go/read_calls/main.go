// Parses tools/call messages, one per line of the given file, with structs of Go's encoding/json, which ignores the
// case of member names. Prints the content of each, with numbers as the bits of a double; null for a message that it
// rejects.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
)

type call struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  struct {
		Name      string         `json:"name"`
		Arguments map[string]any `json:"arguments"`
		Task      any            `json:"task"`
	} `json:"params"`
}

func plain(value any) any {
	switch value := value.(type) {
	case float64:
		if value == 0 {
			value = 0
		}
		return fmt.Sprintf("%016x", math.Float64bits(value))
	case map[string]any:
		for name := range value {
			value[name] = plain(value[name])
		}
	case []any:
		for index := range value {
			value[index] = plain(value[index])
		}
	}
	return value
}

func main() {
	file, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	all := []any{}
	for lines.Scan() {
		var one call
		if json.Unmarshal(lines.Bytes(), &one) != nil {
			all = append(all, nil)
			continue
		}
		all = append(all, []any{one.JSONRPC, one.Method, one.Params.Name, plain(any(one.Params.Arguments)), one.Params.Task})
	}
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		panic(err)
	}
}
