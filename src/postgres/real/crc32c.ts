// CRC-32C (Castagnoli), as PostgreSQL uses it in its control file and backup manifests. Four bytes a step.

const TABLES = makeTables();

/** Continue with the value returned before; 0 to begin. */
export function crc32c(data: Uint8Array, previous = 0): number {
  const [t0, t1, t2, t3] = TABLES;
  let crc = ~previous;
  let i = 0;
  for (const end = data.length - 3; i < end; i += 4) {
    crc ^= byte(data, i) | (byte(data, i + 1) << 8) | (byte(data, i + 2) << 16) | (byte(data, i + 3) << 24);
    crc =
      (t3[crc & 0xff] as number) ^
      (t2[(crc >>> 8) & 0xff] as number) ^
      (t1[(crc >>> 16) & 0xff] as number) ^
      (t0[crc >>> 24] as number);
  }
  for (; i < data.length; i++) crc = (crc >>> 8) ^ (t0[(crc ^ byte(data, i)) & 0xff] as number);
  return ~crc >>> 0;
}

function byte(data: Uint8Array, index: number): number {
  return data[index] as number;
}

function makeTables(): [Int32Array, Int32Array, Int32Array, Int32Array] {
  const tables: [Int32Array, Int32Array, Int32Array, Int32Array] = [
    new Int32Array(256),
    new Int32Array(256),
    new Int32Array(256),
    new Int32Array(256),
  ];
  for (let n = 0; n < 256; n++) {
    let crc = n;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    tables[0][n] = crc;
  }
  for (let n = 0; n < 256; n++)
    for (let t = 1; t < 4; t++) {
      const before = (tables[t - 1] as Int32Array)[n] as number;
      (tables[t] as Int32Array)[n] = (before >>> 8) ^ (tables[0][before & 0xff] as number);
    }
  return tables;
}
