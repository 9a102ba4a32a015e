// Lists the entries of a registry, with the client that buf generates with proto/buf.gen.go.yaml. Arguments: ADDRESS
// TOKEN.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"time"

	registry "example.com/platform/gen/chandlery/registry/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

type entry struct {
	Name        string            `json:"name"`
	DisplayName string            `json:"display_name"`
	Labels      map[string]string `json:"labels"`
}

func main() {
	address, token := os.Args[1], os.Args[2]
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	answer, err := registry.NewEntryServiceClient(connection).ListEntries(ctx, &registry.ListEntriesRequest{})
	if err != nil {
		log.Fatal(err)
	}
	entries := []entry{}
	for _, each := range answer.GetEntries() {
		entries = append(entries, entry{each.GetName(), each.GetDisplayName(), each.GetLabels()})
	}
	if err := json.NewEncoder(os.Stdout).Encode(entries); err != nil {
		log.Fatal(err)
	}
}
