package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	address string
	process *child
}

// startNATS starts one server, or a cluster of three.
func (w *world) startNATS(ctx context.Context) error {
	n := 1
	if w.settings.Cluster {
		n = 3
	}
	routes := make([]string, n)
	for i := range n {
		port, err := freePort()
		if err != nil {
			return err
		}
		route, err := freePort()
		if err != nil {
			return err
		}
		name := fmt.Sprintf("n%d", i+1)
		routes[i] = fmt.Sprintf("127.0.0.1:%d", route)
		w.nats = append(w.nats, &natsServer{
			w: w, name: name, config: w.settings.file(name + ".conf"), address: fmt.Sprintf("127.0.0.1:%d", port),
		})
	}
	for i, server := range w.nats {
		if err := errors.Join(server.configure(routes, i), server.start()); err != nil {
			return err
		}
	}
	for _, server := range w.nats {
		if err := server.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *natsServer) configure(routes []string, own int) error {
	config := fmt.Sprintf("server_name: %s\nlisten: %q\nmax_payload: %d\njetstream { store_dir: %q, sync_interval: always }\n",
		n.name, n.address, relay.MaxBody+64<<10, filepath.Join(n.w.dir, "nats", n.name))
	if len(routes) > 1 {
		config += fmt.Sprintf("cluster { name: campaign, listen: %q, no_advertise: true, routes: [nats-route://%s] }\n",
			routes[own], strings.Join(routes, ", nats-route://"))
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
