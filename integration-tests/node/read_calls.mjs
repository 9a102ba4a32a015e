// Parses tools/call messages, one per line of the given file, and prints the content of each: see
// go/read_calls/main.go.
import { readFileSync } from 'node:fs';

function plain(value) {
  if (typeof value === 'number') {
    const bits = new DataView(new ArrayBuffer(8));
    bits.setFloat64(0, value + 0);
    return bits.getBigUint64(0).toString(16).padStart(16, '0');
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
  }
  return value;
}

function read(line) {
  try {
    const { jsonrpc, method, params } = JSON.parse(line);
    return [jsonrpc, method, params.name, plain(params.arguments ?? null), params.task ?? null];
  } catch {
    return null;
  }
}

const lines = readFileSync(process.argv[2], 'utf8').split('\n').slice(0, -1);
console.log(JSON.stringify(lines.map(read)));
