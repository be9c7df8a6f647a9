package nats_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

// TestClusterOutlivesOneServer starts the three servers of cluster.conf, with
// TLS, and shuts the leader of the queue down.
func TestClusterOutlivesOneServer(t *testing.T) {
	dir := clusterFiles(t)
	servers := startCluster(t, dir)
	three := consumer.StreamOptions{Replicas: 3}
	trusted := nats.RootCAs(filepath.Join(dir, "ca.pem"))
	admin := connect(t, servers[0], provisioner, trusted)
	eventually(t, "three streams on three servers", func(ctx context.Context) bool {
		_, err := consumer.Setup(ctx, admin.js, three)
		return err == nil
	})
	changes, err := consumer.Compare(t.Context(), admin.js, three)
	if err != nil || len(changes) != 6 {
		t.Errorf("compare: %v, %v", changes, err)
	}

	leader, made := leaderOf(t, admin)
	var last *server.Server
	for _, s := range servers {
		if s.Name() != leader {
			last = s
		}
	}
	p := connect(t, last, producer, trusted)
	if _, err := p.js.Publish(t.Context(), "webhooks.outbound", []byte("before"), jetstream.WithMsgID("1")); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		if s.Name() == leader {
			s.Shutdown()
		}
	}
	eventually(t, "publish without the leader", func(ctx context.Context) bool {
		_, err := p.js.Publish(ctx, "webhooks.outbound", []byte("after"), jetstream.WithMsgID("2"))
		return err == nil
	})
	c := connect(t, last, relayUser, trusted)
	stream, err := c.js.Stream(t.Context(), consumer.StreamQueue)
	if err != nil {
		t.Fatal(err)
	}
	if now := stream.CachedInfo().Created; !now.Equal(made) { // relay knows its database by it
		t.Errorf("the stream was made at %s, says the next leader, and at %s, said the one before", now, made)
	}
	if n := stream.CachedInfo().State.Msgs; n != 2 {
		t.Errorf("%d messages, want the one before and the one after", n)
	}
	if refused := append(p.refusals(t), c.refusals(t)...); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
}

// leaderOf returns the queue's leader, and when it says that the stream was made.
func leaderOf(t *testing.T, c *client) (leader string, made time.Time) {
	t.Helper()
	stream, err := c.js.Stream(t.Context(), consumer.StreamQueue)
	if err != nil {
		t.Fatal(err)
	}
	cluster := stream.CachedInfo().Cluster
	if cluster == nil || len(cluster.Replicas) != 2 {
		t.Fatalf("%s is not kept by three servers: %+v", consumer.StreamQueue, cluster)
	}
	return cluster.Leader, stream.CachedInfo().Created
}

// clusterFiles writes the configuration, with its certificates in place of
// those in /etc/nats, into a directory.
func clusterFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"cluster.conf", "accounts.conf", "grants.conf"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), []byte(strings.ReplaceAll(string(text), "/etc/nats", dir)))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nats"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, filepath.Join(dir, "ca.pem"), public)
	write(t, filepath.Join(dir, "server.pem"), public)
	write(t, filepath.Join(dir, "server-key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	return dir
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// startCluster starts three servers on free ports.
func startCluster(t *testing.T, dir string) []*server.Server {
	t.Helper()
	setPasswords(t)
	ports := freePorts(t, 3)
	var servers []*server.Server
	for i, port := range ports {
		t.Setenv("NATS_SERVER_NAME", fmt.Sprintf("nats-%d", i+1))
		o, err := server.ProcessConfigFile(filepath.Join(dir, "cluster.conf"))
		if err != nil {
			t.Fatal(err)
		}
		o.Host, o.Port, o.HTTPPort = "127.0.0.1", server.RANDOM_PORT, 0
		o.StoreDir = filepath.Join(t.TempDir(), "jetstream")
		o.Cluster.Host, o.Cluster.Port = "127.0.0.1", port
		if len(o.Routes) != len(ports) {
			t.Fatalf("cluster.conf has %d routes, want %d", len(o.Routes), len(ports))
		}
		for j, route := range o.Routes {
			route.Host = fmt.Sprintf("localhost:%d", ports[j])
		}
		servers = append(servers, launch(t, o))
	}
	for _, s := range servers {
		ready(t, s)
	}
	return servers
}

// freePorts returns ports that nobody listens on. Others may take one before
// it is used; the servers have to know each other's before they start.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			t.Fatalf("no port in %v", l.Addr())
		}
		ports = append(ports, addr.Port)
	}
	return ports
}
