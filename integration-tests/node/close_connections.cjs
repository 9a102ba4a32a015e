// Preloaded into servers that end when their last client does: Node.js would wait up to a minute for a connection that was opened and not
// used yet, as pools of clients have them.
const http = require("node:http");
const close = http.Server.prototype.close;
http.Server.prototype.close = function (...args) {
  const closed = close.apply(this, args);
  this.closeAllConnections();
  return closed;
};
