// A reporter for vitest: ends the run's processes where no test has begun or ended for longer than any may take. Vitest's own limits run inside the
// test's process, and end nothing there while a call into the kernel doesn't return (a file of a file system whose daemon hangs). What every process was
// doing is printed, since nobody may be there to look.

import { appendFileSync, readdirSync, readFileSync } from "node:fs";

const MARGIN_MS = 120_000;

export default class StallReporter {
  #begun = new Map();
  #last = "nothing yet";
  #limitMs;
  #timer;

  onTestRunStart(specifications) {
    const limits = specifications.map(({ project }) => project.config.testTimeout + project.config.hookTimeout);
    this.#limitMs = Math.max(0, ...limits) + MARGIN_MS;
    this.#wait();
  }

  onTestModuleStart(module) {
    this.#begun.set(module.id, module.relativeModuleId);
    this.#heard(`${module.relativeModuleId} began`);
  }

  onTestModuleEnd(module) {
    this.#begun.delete(module.id);
    this.#heard(`${module.relativeModuleId} ended`);
  }

  onTestCaseReady = (test) => this.#heard(`${test.module.relativeModuleId}: ${test.fullName} began`);
  onTestCaseResult = (test) => this.#heard(`${test.module.relativeModuleId}: ${test.fullName} ended`);
  onHookStart = (hook) =>
    this.#heard(`a hook began: ${hook.name} of ${hook.entity.fullName ?? hook.entity.relativeModuleId}`);
  onHookEnd = (hook) =>
    this.#heard(`a hook ended: ${hook.name} of ${hook.entity.fullName ?? hook.entity.relativeModuleId}`);

  onTestRunEnd() {
    clearTimeout(this.#timer);
  }

  #heard(what) {
    this.#last = what;
    this.#wait();
  }

  #wait() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#stalled(), this.#limitMs);
    this.#timer.unref();
  }

  #stalled() {
    const all = descendants(process.pid);
    const lines = all.map(({ pid, state, wchan, command }) => `    ${pid} ${state} ${wchan} ${command}`);
    const text =
      `✗ for ${Math.round(this.#limitMs / 1000)} s no test began or ended; the last: ${this.#last}\n` +
      `  not ended: ${[...this.#begun.values()].join(", ")}\n` +
      `  its processes, which are ended now (pid, state, where in the kernel, command):\n${lines.join("\n")}\n`;
    process.stderr.write(`\n${text}`);
    const stall = { text, files: [...this.#begun.values()] };
    if (process.env.MANATEE_TEST_STALLS) appendFileSync(process.env.MANATEE_TEST_STALLS, `${JSON.stringify(stall)}\n`);
    // Daemons too: a process that waits for a file system in user space can't be ended before its daemon.
    for (const { pid } of all.toReversed())
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // Gone already.
      }
    this.#wait();
  }
}

/** Every process below one, parents first. */
function descendants(root) {
  const children = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const found = look(Number(pid));
    if (found) children.set(found.parent, [...(children.get(found.parent) ?? []), found]);
  }
  const below = (pid) => (children.get(pid) ?? []).flatMap((child) => [child, ...below(child.pid)]);
  return below(root);
}

function look(pid) {
  const read = (file) => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, "utf8");
    } catch {
      return "";
    }
  };
  const stat = read("stat");
  if (stat === "") return undefined;
  const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const command = read("cmdline").replaceAll("\0", " ").trim().slice(0, 150);
  return { pid, parent: Number(parent), state, wchan: read("wchan") || "-", command };
}
