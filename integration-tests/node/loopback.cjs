// Preloaded into servers that would listen on all interfaces, so that they listen only on 127.0.0.1.
const net = require("node:net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  const [first] = args;
  const isPort = typeof first === "number" || /^\d+$/.test(first ?? "");
  if (!isPort && !(typeof first === "object" && first !== null && "port" in first)) return listen.apply(this, args);
  const listening = args.findLast((arg) => typeof arg === "function");
  if (listening) this.once("listening", listening);
  // At once, as it does without a host: with one it resolves that first, and servers ask for their port before.
  this._listen2("127.0.0.1", Number(isPort ? first : first.port), 4, 511);
  return this;
};
