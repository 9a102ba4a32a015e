// The client that the conformance suite starts for each scenario: it hands the scenario to the journey, which plays the people, and waits
// until they are done. Arguments: JOURNEY_URL SERVER_URL.
const [journey, server] = process.argv.slice(2);
const { MCP_CONFORMANCE_SCENARIO: scenario, MCP_CONFORMANCE_PROTOCOL_VERSION: revision, MCP_CONFORMANCE_CONTEXT: context } = process.env;
const body = JSON.stringify({ scenario, revision, server, context: JSON.parse(context ?? "{}") });
const answer = await fetch(journey, { method: "POST", headers: { "content-type": "application/json" }, body });
console.log(await answer.text());
process.exitCode = answer.ok ? 0 : 1;
