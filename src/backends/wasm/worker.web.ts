/** A browser's worker around host.ts. */
import { type Host, type Request, type StartMessage, startHost } from "./host.ts";

let host: Host | undefined;

addEventListener("message", (event: MessageEvent<StartMessage | { id: number; request: Request }>) => {
  const message = event.data;
  if ("kind" in message) {
    host = startHost(message);
    return;
  }
  const reply = host!.answer(message.id, message.request);
  postMessage(reply, { transfer: reply.bytes ? [reply.bytes.buffer] : [] });
});
