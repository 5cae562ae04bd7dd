// Brokers of npm peer (PeerServer) for tests, as many as asked for in one process.
//
//   node peerjs_server.js
//
// Commands on stdin, JSON lines: {"listen": {...}} with the original's options answers {"port": n}; {"kill": n} drops
// all connections of the broker at that port and stops it, and answers {"killed": n}. Ends at the end of stdin.
"use strict";

const { createInterface } = require("node:readline");
const { PeerServer } = require("peer");

const brokers = new Map(); // port -> [HTTP server, its sockets]
const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

function listen(options) {
  const app = PeerServer({ host: "127.0.0.1", port: 0, ...options }, (server) => {
    const sockets = new Set();
    server.on("connection", (socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
    });
    const { port } = server.address();
    brokers.set(port, [server, sockets]);
    answer({ port });
  });
  app.on("error", () => {}); // as its command line does; without this, a bad frame ends the process
}

function kill(port) {
  const [server, sockets] = brokers.get(port);
  brokers.delete(port);
  server.close(() => answer({ killed: port }));
  for (const socket of sockets) socket.destroy();
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    if (command.listen) listen(command.listen);
    else kill(command.kill);
  })
  .on("close", () => process.exit(0));
