// Preloaded into servers that would listen on all interfaces, so that they listen only on 127.0.0.1.
const net = require("node:net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  if (typeof args[0] === "object" && args[0] !== null && !("path" in args[0])) {
    args[0] = { ...args[0], host: "127.0.0.1" };
  } else if (typeof args[0] === "number" || /^\d+$/.test(args[0] ?? "")) {
    const rest = args.slice(1).filter((arg) => typeof arg === "function" || typeof arg === "number");
    args = [Number(args[0]), "127.0.0.1", ...rest];
  }
  return listen.apply(this, args);
};
