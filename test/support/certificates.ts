// Certificates for a test, by the openssl program, each from an authority of the test's own.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

export const opensslInstalled = existsSync("/usr/bin/openssl");

const run = promisify(execFile);
const openssl = (line: string, ...more: string[]) => run("openssl", [...line.split(" "), ...more], { timeout: 20_000 });

export async function authority(folder: string, name: string): Promise<{ certFile: string; keyFile: string }> {
  const [certFile, keyFile] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
  const how = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
  await openssl(how, "-subj", `/CN=${name}`, "-keyout", keyFile, "-out", certFile);
  return { certFile, keyFile };
}

/** A certificate for 127.0.0.1, signed by that authority. */
export async function certificate(
  folder: string,
  by: string,
  name: string,
): Promise<{ caFile: string; certFile: string; keyFile: string }> {
  const [certFile, keyFile] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
  const [request, extensions] = [join(folder, `${name}.csr`), join(folder, `${name}.ext`)];
  await writeFile(extensions, "subjectAltName=IP:127.0.0.1\n");
  const how = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
  await openssl(how, "-subj", `/CN=${name}`, "-keyout", keyFile, "-out", request);
  const [caFile, caKey] = [join(folder, `${by}.crt`), join(folder, `${by}.key`)];
  const files = ["-in", request, "-CA", caFile, "-CAkey", caKey, "-extfile", extensions, "-out", certFile];
  await openssl("x509 -req -days 2 -CAcreateserial", ...files);
  return { caFile, certFile, keyFile };
}
