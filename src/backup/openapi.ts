// The description of the routes (OpenAPI 3.1), made of the schemas by which they answer.

import * as z from "zod";
import {
  jobCreatedSchema,
  jobRequestSchema,
  jobSchema,
  listSchema,
  problemSchema,
  snapshotSchema,
  transferSchema,
} from "./wire.ts";

const SCHEMAS = {
  Problem: problemSchema,
  Snapshot: snapshotSchema,
  Transfer: transferSchema,
  SnapshotList: listSchema,
  JobRequest: jobRequestSchema,
  JobCreated: jobCreatedSchema,
  Job: jobSchema,
};

type SchemaName = keyof typeof SCHEMAS;

const STREAM =
  "Frames: kind (1 byte: 1 begin, 2 wait, 3 data, 4 end, 5 error), length (4 bytes, big-endian), payload, tag (16 bytes: AES-256-GMAC of all before, " +
  "under the key of this request, its nonce the frame's number in 12 bytes). All but data are JSON. Without the frame `end` the stream is not whole.";

export function openApi(): object {
  return {
    openapi: "3.1.0",
    info: {
      title: "manatee-backupserver",
      version: "1",
      description:
        "Sends snapshots of a shard's database to its peers. `authorization` is `Manatee-HMAC-SHA256 time=MS, nonce=HEX32, proof=HEX64`: the proof is the HMAC-SHA-256 of " +
        "`request`, method, path with query, time, nonce and body, joined by line feeds, under the key HMAC-SHA-256(replication password, `manatee peers 1`); the key of " +
        "the answer is HMAC-SHA-256(that key, `answer`, line feed, nonce).",
    },
    paths: paths(),
    components: {
      schemas: Object.fromEntries(Object.entries(SCHEMAS).map(([name, schema]) => [name, jsonSchema(schema)])),
      securitySchemes: { peer: { type: "apiKey", in: "header", name: "authorization" } },
    },
  };
}

function paths(): object {
  const name = parameter("name", "path", "A snapshot of the list.");
  const uuid = parameter("uuid", "path", "Of the transfer.");
  return {
    "/": {
      get: {
        summary: "The list of routes.",
        security: [],
        responses: { 200: { description: "Routes.", content: json({ type: "object" }) } },
      },
    },
    "/openapi.json": {
      get: {
        summary: "This description.",
        security: [],
        responses: { 200: { description: "OpenAPI 3.1.", content: json({ type: "object" }) } },
      },
    },
    "/snapshots": {
      get: operation("The snapshots, the queue and the transfers.", { 200: "SnapshotList" }, [403, 503]),
      post: operation("Takes a snapshot now; the answer comes when it is there.", { 201: "Snapshot" }, [403, 409, 503]),
    },
    "/snapshots/{name}/stream": {
      get: {
        ...operation("A snapshot's stream.", {}, [403, 404, 409, 503]),
        parameters: [
          name,
          parameter("from", "query", "A snapshot of the list: only what changed since."),
          parameter("resume", "query", "The token of the receiver's storage: from where it broke off."),
        ],
        responses: {
          101: {
            description:
              "The same as 200 where `Upgrade: manatee-stream` was asked for: bare frames until the connection ends.",
          },
          200: { description: STREAM, content: { "application/vnd.manatee.stream": {} } },
          ...problems([403, 404, 409, 503]),
        },
      },
    },
    "/backup/": {
      post: {
        ...operation(
          "Sends the newest snapshot's bare stream to an address, as the original does.",
          { 200: "JobCreated" },
          [403, 404, 409, 503],
        ),
        requestBody: { required: true, content: json(reference("JobRequest")) },
      },
    },
    "/backup/{uuid}": {
      get: {
        ...operation("How far that is; 500 for a job that failed.", { 200: "Job", 500: "Job" }, [403, 404]),
        parameters: [uuid],
      },
      delete: {
        ...operation("Cancels a transfer of either kind.", { 200: "Transfer" }, [403, 404]),
        parameters: [uuid],
      },
    },
  };
}

function operation(summary: string, answers: Readonly<Record<number, SchemaName>>, failures: readonly number[]) {
  const good = Object.entries(answers).map(([status, schema]) => [
    status,
    { description: schema, content: json(reference(schema)) },
  ]);
  return { summary, security: [{ peer: [] }], responses: { ...Object.fromEntries(good), ...problems(failures) } };
}

function problems(statuses: readonly number[]): object {
  return Object.fromEntries(
    statuses.map((status) => [
      status,
      { description: "What is wrong, and what to do.", content: json(reference("Problem")) },
    ]),
  );
}

function parameter(name: string, where: "path" | "query", description: string): object {
  return { name, in: where, required: where === "path", description, schema: { type: "string" } };
}

function reference(schema: SchemaName): object {
  return { $ref: `#/components/schemas/${schema}` };
}

function json(schema: object): object {
  return { "application/json": { schema } };
}

/** As it is in answers; what is asked is read more leniently (a port may be a text). */
function jsonSchema(schema: z.ZodType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { target: "draft-2020-12", io: "output" });
  return rest;
}
