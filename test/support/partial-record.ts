// A primary that dies inside a WAL record: what its standbys have ends at a segment's boundary, with the first part of a record before it.

/** Writes until a segment is full, and flushed up to its end only: the record that goes on in the next one is not whole on the disk. Give the walwriter a SIGSTOP before. */
export const FILL_A_SEGMENT = `
  do $$
  declare
    bytes constant numeric := pg_size_bytes(current_setting('wal_segment_size'));
    begun constant numeric := div(pg_current_wal_insert_lsn() - '0/0', bytes);
  begin
    loop
      perform pg_logical_emit_message(false, 'test', repeat('a', 9000));
      exit when div(pg_current_wal_flush_lsn() - '0/0', bytes) > begun;
    end loop;
  end $$`;
