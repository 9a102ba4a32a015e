// Lists the entries of a registry, with the client that buf generates with proto/buf.gen.typescript.yaml. Arguments:
// ADDRESS TOKEN.
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { EntryService } from "./gen/chandlery/registry/v1/entry_pb.js";

const [address, token] = process.argv.slice(2);
const client = createClient(EntryService, createGrpcTransport({ baseUrl: `http://${address}` }));
const headers = { authorization: `Bearer ${token}` };
const { entries } = await client.listEntries({}, { headers, timeoutMs: 30_000 });
console.log(JSON.stringify(entries.map((each) => ({ name: each.name, display_name: each.displayName, labels: each.labels }))));
