/**
 * The dashboard's server: a page, its two modules, and metrics.jsonl as server-sent events, from its first line on and then as
 * it grows. It reads only that file, so that a finished run and one in another process are shown like one in this process.
 */
import { randomBytes } from "node:crypto";
import { open, readFile, stat } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { basename, join, resolve } from "node:path";
import { FormatError } from "../../../errors.ts";
import { metricsFile } from "../node-run-folder.ts";
import { pageHtml } from "./page-html.ts";

const POLL_MS = 250;
/** One message of a long run's past; more follow. */
const MAX_MESSAGE_BYTES = 1_048_576;
const modules = ["page.js", "chart.js", "format.js", "run-data.js"];

/** A server that runs until `close`. */
export type Dashboard = {
  readonly url: string;
  /** Sends what is written so far to every open page, and ends. */
  close(): Promise<void>;
};

/** Sends one page's news; rejects when the page or the file is gone. */
type Follower = () => Promise<void>;

/**
 * Serves the page of a run's folder, on 127.0.0.1 alone.
 * @param port 0: any that is free.
 * @throws {FormatError} if the port is taken.
 */
export async function startDashboard(folder: string, port: number): Promise<Dashboard> {
  const file = join(folder, metricsFile);
  const html = pageHtml(basename(resolve(folder)));
  const followers = new Set<Follower>();
  const server = createServer((request, response) => {
    answer(request, response, { file, html, followers }).catch((error: unknown) => response.destroy(error as Error));
  });
  await new Promise<void>((listening, failed) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const reason = cause.code === "EADDRINUSE" ? "it is taken" : cause.message;
      failed(
        new FormatError(`dashboard: port ${port} was required, but ${reason}. Choose another, or 0 for any.`, {
          cause,
        }),
      );
    });
    server.listen(port, "127.0.0.1", listening);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close: async () => {
      await Promise.allSettled([...followers].map((sendNews) => sendNews()));
      await new Promise<void>((closed) => {
        server.close(() => closed());
        server.closeIdleConnections();
        // A page that doesn't read must not keep the process.
        setTimeout(() => server.closeAllConnections(), POLL_MS).unref();
      });
    },
  };
}

type Content = { readonly file: string; readonly html: string; readonly followers: Set<Follower> };

async function answer(request: IncomingMessage, response: ServerResponse, content: Content): Promise<void> {
  const headers = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
  };
  const send = (status: number, type: string, body: string | Uint8Array): void => {
    response.writeHead(status, { ...headers, "Content-Type": `${type}; charset=utf-8` });
    response.end(body);
  };
  // A page elsewhere whose name was made to mean 127.0.0.1 must not read the samples (DNS rebinding).
  if (!/^(127\.0\.0\.1|localhost)(:\d+)?$/.test(request.headers.host ?? "")) {
    return send(403, "text/plain", "Only for this machine.\n");
  }
  const path = new URL(request.url ?? "/", "http://127.0.0.1").pathname.slice(1);
  if (path === "") return send(200, "text/html", content.html);
  if (path === "events") return followFile(request, response, content);
  if (modules.includes(path)) return send(200, "text/javascript", await readFile(new URL(path, import.meta.url)));
  send(404, "text/plain", "Not found.\n");
}

/** Sets this server's places in the file apart from an earlier one's, to which a page may hold on. */
const serverId = randomBytes(6).toString("hex");

/** Sends the lines as arrays of records; `reset` where they begin anew. */
function followFile(request: IncomingMessage, response: ServerResponse, { file, followers }: Content): void {
  const [id, place] = String(request.headers["last-event-id"] ?? "").split(":");
  let offset = id === serverId ? Number(place) : 0;
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  response.write(offset === 0 ? "event: reset\ndata:\n\n" : ":\n\n");

  async function sendNew(): Promise<void> {
    const size = await stat(file).then(
      (found) => found.size,
      () => 0,
    );
    if (size < offset) {
      offset = 0; // a resumed run was cut back
      response.write("event: reset\ndata:\n\n");
    }
    while (offset < size && !response.destroyed) {
      const lines = await readLines(file, offset, size);
      if (lines.length === 0) return;
      offset += lines.length;
      response.write(
        `id: ${serverId}:${offset}\ndata: [${lines.toString("utf8").trimEnd().replaceAll("\n", ",")}]\n\n`,
      );
    }
  }
  // One after the other: each goes on where the one before ended.
  let sending = Promise.resolve();
  const sendNews = (): Promise<void> => (sending = sending.then(sendNew));
  const poll = (): void => {
    sendNews().catch((error: unknown) => response.destroy(error as Error));
  };
  poll();
  const timer = setInterval(poll, POLL_MS);
  followers.add(sendNews);
  response.on("close", () => {
    clearInterval(timer);
    followers.delete(sendNews);
  });
}

/** Whole lines from `offset` on, about a message's worth; none while the first is being written. */
async function readLines(path: string, offset: number, size: number): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    const buffer = Buffer.alloc(Math.min(size - offset, MAX_MESSAGE_BYTES));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
    return buffer.subarray(0, buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1);
  } finally {
    await file.close();
  }
}
