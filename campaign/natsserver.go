package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
)

// natsServer is a real nats-server that can be killed and started again on
// what it had stored.
type natsServer struct {
	w       *world
	name    string
	config  string
	address string   // for clients
	monitor string   // for /routez
	listen  string   // for routes, which come by the other servers' cables
	routes  []*cable // to the other servers, in their order; nil for itself, and where it is alone
	process *child
}

// startNATS starts one server, or a cluster of three.
func (w *world) startNATS(ctx context.Context) error {
	n := 1
	if w.settings.Cluster {
		n = 3
	}
	for i := range n {
		server, err := w.newServer(fmt.Sprintf("n%d", i+1))
		if err != nil {
			return err
		}
		w.nats = append(w.nats, server)
	}
	for _, server := range w.nats {
		if err := errors.Join(server.lay(), server.configure(), server.start()); err != nil {
			return err
		}
	}
	for _, server := range w.nats {
		if err := server.await(ctx); err != nil {
			return err
		}
	}
	return w.awaitRoutes(ctx)
}

func (w *world) newServer(name string) (*natsServer, error) {
	n := &natsServer{w: w, name: name, config: w.settings.file(name + ".conf")}
	for _, address := range []*string{&n.address, &n.monitor, &n.listen} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		*address = fmt.Sprintf("127.0.0.1:%d", port)
	}
	return n, nil
}

func (n *natsServer) configure() error {
	config := fmt.Sprintf("server_name: %s\nlisten: %q\nhttp: %q\nmax_payload: %d\njetstream { store_dir: %q, sync_interval: always }\n",
		n.name, n.address, n.monitor, relay.MaxBody+64<<10, filepath.Join(n.w.dir, "nats", n.name))
	if len(n.routes) > 0 {
		config += n.cluster()
	}
	if err := os.WriteFile(n.config, []byte(config), 0o600); err != nil {
		return fmt.Errorf("campaign: configuration of NATS: %w", err)
	}
	return nil
}

func (n *natsServer) start() (err error) {
	n.process, err = spawn(func(line string) { _, _ = fmt.Fprintf(n.w.log, "%s %s\n", n.name, line) },
		n.w.settings.file("nats-server"), "-c", n.config)
	return err
}

// await waits until clients are served.
func (n *natsServer) await(ctx context.Context) error {
	return n.w.eventually(ctx, startPatience, "connect to "+n.name, func(context.Context) error {
		conn, err := nats.Connect("nats://" + n.address)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func (n *natsServer) kill() {
	if n.process != nil {
		n.process.kill()
	}
}

// stop ends the server in order.
func (n *natsServer) stop() {
	n.process.signal(syscall.SIGTERM)
	<-n.process.ended
}

// restart starts the server again and waits until it serves.
func (n *natsServer) restart(ctx context.Context) error {
	return errors.Join(n.start(), n.await(ctx))
}

// close ends the server and takes its cables away.
func (n *natsServer) close() {
	n.kill()
	own, _ := n.cables()
	for _, line := range own {
		line.close()
	}
}
