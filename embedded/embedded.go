// Package embedded runs the two servers that relay stands on, where nobody has
// given it any: a NATS server with JetStream inside this process, and a
// Postgres as a child process. The command relay dev and relay's tests use
// both; a fault test can kill either and start it again on the same directory.
//
// Neither is a toy. The NATS server is the real one with every write synced to
// the disk, and the Postgres is the machine's own. What is stored in their
// directories survives a restart and a kill -9.
package embedded
