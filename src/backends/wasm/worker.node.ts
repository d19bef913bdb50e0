/** A worker thread of Node around host.ts. */
import { parentPort } from "node:worker_threads";
import { type Host, type Request, type StartMessage, startHost } from "./host.ts";

let host: Host | undefined;

parentPort!.on("message", (message: StartMessage | { id: number; request: Request }) => {
  if ("kind" in message) {
    host = startHost(message);
    return;
  }
  const reply = host!.answer(message.id, message.request);
  parentPort!.postMessage(reply, reply.bytes ? [reply.bytes.buffer] : []);
});
