// One connection to one server, from dialling to its end: handshake, authentication, requests in order with their answers, signs of
// life, the limits in time. It never reconnects and knows nothing of a session's end: lifetime.ts does. Over once means over for good.
//
// The sign of life is a `sync`, not a ping: a ping is answered by the server alone, and one that has lost its leader goes on to do so for
// seconds, while the leader, which hears nothing of us, ends the session. A sync is answered when the leader has been heard; without that, this
// server looks as silent as it is useless, and another is tried while there is time. Nothing is written for it.

import type { Ms } from "../../base/units.ts";
import type { Clock, Timers } from "../../world/port.ts";
import { formatAddress, type ServerAddress } from "./connect-string.ts";
import type { Dial, Line } from "./dial.ts";
import { authenticationFailed } from "./errors.ts";
import { framed, frameSplitter, type FrameSplitter } from "./frames.ts";
import { JuteReader, JuteWriter, MalformedRecord } from "./jute.ts";
import {
  ANSWER_BYTES,
  HANDSHAKE_ANSWER_BYTES,
  proofIntervalMs,
  readLimitMs,
  STALL_MS,
  UNANSWERED_REQUESTS,
  UNSENT_BYTES,
} from "./limits.ts";
import {
  ERR,
  OP,
  readAnswerHeader,
  readConnectAnswer,
  readNodeEvent,
  writeAuth,
  writeConnectRequest,
  writeRequestHeader,
  XID,
  type AnswerHeader,
  type ConnectAnswer,
  type ConnectRequest,
  type NodeEvent,
} from "./messages.ts";

export type Answer =
  | { readonly kind: "answered"; readonly header: AnswerHeader; readonly body: JuteReader }
  /** It was sent, and no (readable) answer came before the end of the connection. */
  | { readonly kind: "lost"; readonly error: Error };

export interface Request {
  readonly type: number;
  readonly write: (to: JuteWriter) => void;
  /** Once. May throw {@link MalformedRecord} on an answer: it is then called again with `lost`, and the connection ends. */
  readonly settle: (answer: Answer) => void;
}

export interface ConnectionEvents {
  /** The server took the session, having heard of it at `sentAt` or later. What is sent during this call goes out before anything else. */
  ready(answer: ConnectAnswer, sentAt: Ms): void;
  /** The server says that the session is over. No event follows; comes before the unanswered requests are settled. */
  sessionOver(): void;
  /** The server, in touch with its leader, has heard from this session, at `sentAt` or later. */
  confirmed(sentAt: Ms): void;
  sawZxid(zxid: bigint): void;
  event(event: NodeEvent): void;
  /** Once, unless dropped; comes before the unanswered requests are settled. */
  gone(error: Error): void;
}

/** Steps of SASL, see sasl.ts. */
export interface Authenticator {
  /** The token to send for what the server said (at first: nothing). undefined: all is done. Throws where the server can't be trusted. */
  step(challenge: Uint8Array): Uint8Array | undefined;
}

export interface ConnectionOptions {
  readonly server: ServerAddress;
  readonly dial: Dial;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly handshakeLimitMs: Ms;
  readonly hello: ConnectRequest;
  readonly credential: { readonly scheme: string; readonly credential: Uint8Array } | undefined;
  readonly authenticator: Authenticator | undefined;
  readonly events: ConnectionEvents;
}

interface Unanswered {
  readonly xid: number;
  /** Undefined where the server answers without its leader: reads. */
  readonly provesAt: Ms | undefined;
  readonly settle: (answer: Answer) => void;
}

type Phase = "dialling" | "greeting" | "authenticating" | "ready" | "over";

export class Connection {
  readonly server: string;
  private readonly options: ConnectionOptions;
  private readonly frames: FrameSplitter = frameSplitter(HANDSHAKE_ANSWER_BYTES);
  private readonly line: Line;
  private phase: Phase = "dialling";
  private unanswered: Unanswered[] = [];
  private greetedAt: Ms = 0;
  private nextXid = 1;
  /** Of what proves, when it is answered, that the leader still has the session. */
  private lastProofSentAt: Ms;
  private lastHeardAt: Ms;
  private cancelTimer: () => void;

  constructor(options: ConnectionOptions) {
    const { server, dial, clock, timers, handshakeLimitMs } = options;
    this.options = options;
    this.server = formatAddress(server);
    this.lastProofSentAt = this.lastHeardAt = clock.now();
    this.cancelTimer = timers.after(handshakeLimitMs, () =>
      this.fail(new Error(`no handshake with ${this.server} within ${Math.round(handshakeLimitMs)} ms`)),
    );
    this.line = dial(server, {
      open: () => this.greet(),
      data: (chunk) => this.receive(chunk),
      gone: (error) => this.fail(error),
    });
  }

  get isReady(): boolean {
    return this.phase === "ready";
  }

  /** Whether the bounds on what is under way leave room for one more request. */
  get hasRoom(): boolean {
    return this.unanswered.length < UNANSWERED_REQUESTS && this.line.unsentBytes < UNSENT_BYTES;
  }

  /** Only while ready. Answers come in the order of the requests. */
  send(request: Request): void {
    if (this.phase !== "ready" && this.phase !== "authenticating") throw new Error(`send while ${this.phase}`);
    const xid = this.nextXid;
    this.nextXid = xid === 0x7fffffff ? 1 : xid + 1;
    const isProof = request.type === OP.sync || request.type === OP.multi;
    const now = this.options.clock.now();
    if (isProof) this.lastProofSentAt = now;
    this.unanswered.push({ xid, provesAt: isProof ? now : undefined, settle: request.settle });
    this.transmit({ xid, type: request.type }, request.write);
  }

  /** For exchanges with a number of their own, whose answers tell nothing. */
  sendSpecial(header: { xid: number; type: number }, write: (to: JuteWriter) => void): void {
    this.transmit(header, write);
  }

  /** Ends it at once. Unanswered requests are settled as lost, for this reason; `gone` is not called. */
  drop(reason: Error): void {
    if (this.phase === "over") return;
    this.phase = "over";
    this.cancelTimer();
    this.line.drop();
    this.settleLost(reason);
  }

  private fail(error: Error): void {
    if (this.phase === "over") return;
    this.phase = "over";
    this.cancelTimer();
    this.line.drop();
    this.options.events.gone(error);
    this.settleLost(error);
  }

  private settleLost(error: Error): void {
    const lost = this.unanswered;
    this.unanswered = [];
    for (const { settle } of lost) settle({ kind: "lost", error });
  }

  private transmit(header: { xid: number; type: number }, write: (to: JuteWriter) => void): void {
    const message = new JuteWriter();
    writeRequestHeader(message, header);
    write(message);
    this.line.send(framed(message.bytes()));
  }

  private greet(): void {
    this.phase = "greeting";
    const message = new JuteWriter();
    writeConnectRequest(message, this.options.hello);
    this.lastProofSentAt = this.greetedAt = this.options.clock.now();
    this.line.send(framed(message.bytes()));
  }

  private receive(chunk: Uint8Array): void {
    this.lastHeardAt = this.options.clock.now();
    try {
      for (const frame of this.frames.push(chunk)) {
        if (this.phase === "over") return;
        this.takeFrame(new JuteReader(frame));
      }
    } catch (error) {
      if (!(error instanceof MalformedRecord)) throw error;
      this.fail(new Error(`${this.server} sent what is not ZooKeeper's protocol`, { cause: error }));
    }
  }

  private takeFrame(from: JuteReader): void {
    if (this.phase === "greeting") return this.takeGreeting(readConnectAnswer(from));
    if (this.phase === "dialling") throw new MalformedRecord("an answer before a request");
    const header = readAnswerHeader(from);
    if (header.zxid > 0n) this.options.events.sawZxid(header.zxid);
    switch (header.xid) {
      case XID.notification:
        this.options.events.event(readNodeEvent(from));
        return;
      case XID.auth:
        if (header.error !== ERR.ok) this.fail(authenticationFailed(`${this.server} refused the user and password`));
        return;
      case XID.setWatches:
        return;
      default:
        this.takeAnswer(header, from);
    }
  }

  private takeGreeting(answer: ConnectAnswer): void {
    const { authenticator } = this.options;
    if (answer.timeoutMs <= 0) return this.endSession();
    this.frames.limitTo(ANSWER_BYTES);
    this.phase = "authenticating";
    if (authenticator === undefined) this.becomeReady(answer);
    else this.authenticate({ authenticator, answer, challenge: new Uint8Array() });
  }

  private authenticate(exchange: { authenticator: Authenticator; answer: ConnectAnswer; challenge: Uint8Array }): void {
    let token: Uint8Array | undefined;
    try {
      token = exchange.authenticator.step(exchange.challenge);
    } catch (error) {
      return this.fail(authenticationFailed(`the SASL exchange with ${this.server} failed`, error));
    }
    if (token === undefined) return this.becomeReady(exchange.answer);
    const sent = token;
    this.send({
      type: OP.sasl,
      write: (to) => to.bytesField(sent),
      settle: (answer) => {
        if (answer.kind === "lost") return;
        if (answer.header.error !== ERR.ok)
          return this.fail(authenticationFailed(`${this.server} refused the SASL user and password`));
        this.authenticate({ ...exchange, challenge: answer.body.bytesField() });
      },
    });
  }

  private becomeReady(answer: ConnectAnswer): void {
    const { credential } = this.options;
    if (credential !== undefined) this.transmit({ xid: XID.auth, type: OP.auth }, (to) => writeAuth(to, credential));
    this.phase = "ready";
    this.cancelTimer();
    this.watchTime(answer.timeoutMs);
    this.options.events.ready(answer, this.greetedAt);
  }

  private takeAnswer(header: AnswerHeader, body: JuteReader): void {
    const [head] = this.unanswered;
    if (head === undefined) throw new MalformedRecord(`an answer to ${header.xid}, but nothing was asked`);
    if (head.xid !== header.xid)
      throw new MalformedRecord(`an answer to ${header.xid} while ${head.xid} was the next to be answered`);
    this.unanswered.shift();
    // An error of the session's own tells that the server did not take this as a sign of life of ours.
    const ofSession = header.error === ERR.sessionExpired || header.error === ERR.sessionMoved;
    if (!ofSession && head.provesAt !== undefined) this.options.events.confirmed(head.provesAt);
    try {
      head.settle({ kind: "answered", header, body });
    } catch (error) {
      if (error instanceof MalformedRecord) head.settle({ kind: "lost", error });
      throw error;
    }
    if (header.error === ERR.sessionExpired) this.endSession();
    else if (header.error === ERR.sessionMoved) this.fail(new Error("the session was moved to another server"));
  }

  private endSession(): void {
    if (this.phase === "over") return;
    this.phase = "over";
    this.cancelTimer();
    this.line.drop();
    this.options.events.sessionOver();
    this.settleLost(new Error("the session is over"));
  }

  /**
   * A sign of life by the time since the last *sent* one, so that neither notifications nor reads can suppress it; gives up by the time since the
   * last byte.
   */
  private watchTime(sessionTimeoutMs: Ms): void {
    const { clock, timers } = this.options;
    const proofMs = proofIntervalMs(sessionTimeoutMs);
    const limitMs = readLimitMs(sessionTimeoutMs);
    const schedule = (): void => {
      const due = Math.min(this.lastProofSentAt + proofMs, this.lastHeardAt + limitMs);
      const delayMs = Math.max(due - clock.now(), 1);
      this.cancelTimer = timers.after(delayMs, () => check(due));
    };
    const check = (due: Ms): void => {
      const now = clock.now();
      if (now - this.lastProofSentAt >= proofMs)
        this.send({ type: OP.sync, write: (to) => to.string("/"), settle: () => {} });
      if (now - this.lastHeardAt >= limitMs) {
        // After a stall of our own process, what the server sent meanwhile is still to be read, and the sync just sent to be answered.
        if (now - due < STALL_MS)
          return this.fail(new Error(`nothing heard from ${this.server} for ${Math.round(limitMs)} ms`));
        this.cancelTimer = timers.after(STALL_MS, () => check(now + STALL_MS));
        return;
      }
      schedule();
    };
    schedule();
  }
}
