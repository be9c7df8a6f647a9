package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// nobody is where no server listens. It is what each server tells the others
// to be the address of its routes: they hand it on, try it once, and are left
// with the routes that they were given, each over a cable.
const nobody = "127.0.0.1:1"

// lay makes the cables from this server to the others.
func (n *natsServer) lay() error {
	if len(n.w.nats) == 1 {
		return nil
	}
	n.routes = make([]*cable, len(n.w.nats))
	for i, other := range n.w.nats {
		if other == n {
			continue
		}
		line, err := newCable(other.listen)
		if err != nil {
			return err
		}
		n.routes[i] = line
	}
	return nil
}

// cluster is the server's part of a cluster, as its configuration says it.
func (n *natsServer) cluster() string {
	var routes []string
	for i, line := range n.routes {
		if n.w.nats[i] != n {
			routes = append(routes, "nats-route://"+line.address())
		}
	}
	return fmt.Sprintf("cluster { name: campaign, listen: %q, advertise: %q, no_advertise: true, routes: [%s] }\n",
		n.listen, nobody, strings.Join(routes, ", "))
}

// cables are all that lie between this server and others, both ways.
func (n *natsServer) cables(others ...*natsServer) (own, theirs []*cable) {
	for i, other := range n.w.nats {
		laid := len(n.routes) > i && len(other.routes) > i
		if laid && other != n && (len(others) == 0 || slices.Contains(others, other)) {
			own = append(own, n.routes[i])
			theirs = append(theirs, other.routes[slices.Index(n.w.nats, n)])
		}
	}
	return own, theirs
}

// awaitRoutes waits until each server has routes to all others, over cables
// alone.
func (w *world) awaitRoutes(ctx context.Context) error {
	if len(w.nats) == 1 {
		return nil
	}
	return w.eventually(ctx, startPatience, "join the cluster", func(ctx context.Context) error {
		for _, n := range w.nats {
			peers, err := n.peers(ctx)
			if err != nil {
				return err
			}
			if len(peers) < len(w.nats)-1 {
				return fmt.Errorf("%s has routes to %v", n.name, peers)
			}
		}
		return nil
	})
}

// peers asks a server which others it has routes to. It fails if one of them
// goes around the cables: then nothing that is done to a cable would be a
// partition.
func (n *natsServer) peers(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.monitor+"/routez", nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Routes []struct {
			Name string `json:"remote_name"`
			IP   string `json:"ip"`
			Port int    `json:"port"`
		} `json:"routes"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("/routez of %s: %w", n.name, err)
	}
	own, theirs := n.cables()
	var names []string
	for _, r := range answer.Routes {
		address := net.JoinHostPort(r.IP, strconv.Itoa(r.Port))
		if !slices.ContainsFunc(slices.Concat(own, theirs), func(c *cable) bool { return c.carries(address) }) {
			return nil, fmt.Errorf("the route of %s to %s at %s goes around the cables", n.name, r.Name, address)
		}
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	return names, nil
}
