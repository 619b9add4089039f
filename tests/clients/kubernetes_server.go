// Package testserver stands in for the package of the same name in k8s.io/apiserver, which runs an etcd inside the test: this one runs the
// program that the environment names, with the same configuration as flags. tests/clients/run puts it in place with go's -overlay.
package testserver

import (
	"context"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

const (
	program    = "SERVER_UNDER_TEST"
	readyLimit = 30 * time.Second
	stopLimit  = 10 * time.Second
)

// freeURL is at a loopback port that nobody has now.
func freeURL(t testing.TB) url.URL {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: net.JoinHostPort("localhost", strconv.Itoa(l.Addr().(*net.TCPAddr).Port))}
}

// NewTestConfig is for one member with a data directory that ends with the test.
func NewTestConfig(t testing.TB) *embed.Config {
	cfg := embed.NewConfig()
	client, peer := freeURL(t), freeURL(t)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.Dir = filepath.Join(t.TempDir(), "data")
	return cfg
}

func join(urls []url.URL) string {
	texts := make([]string, len(urls))
	for i, u := range urls {
		texts[i] = u.String()
	}
	return strings.Join(texts, ",")
}

func flags(cfg *embed.Config) []string {
	all := []string{
		"--name=" + cfg.Name,
		"--data-dir=" + cfg.Dir,
		"--listen-client-urls=" + join(cfg.ListenClientUrls),
		"--advertise-client-urls=" + join(cfg.AdvertiseClientUrls),
		"--listen-peer-urls=" + join(cfg.ListenPeerUrls),
		"--initial-advertise-peer-urls=" + join(cfg.AdvertisePeerUrls),
		"--initial-cluster=" + cfg.InitialCluster,
		"--quota-backend-bytes=" + strconv.FormatInt(cfg.QuotaBackendBytes, 10),
		"--watch-progress-notify-interval=" + cfg.WatchProgressNotifyInterval.String(),
		"--log-level=warn",
		"--unsafe-no-fsync",
	}
	for name, file := range map[string]string{
		"--cert-file=":       cfg.ClientTLSInfo.CertFile,
		"--key-file=":        cfg.ClientTLSInfo.KeyFile,
		"--trusted-ca-file=": cfg.ClientTLSInfo.TrustedCAFile,
	} {
		if file != "" {
			all = append(all, name+file)
		}
	}
	return all
}

// start runs the server until the end of the test.
func start(t testing.TB, cfg *embed.Config) {
	command := exec.Command(os.Getenv(program), flags(cfg)...)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	if err := command.Start(); err != nil {
		t.Fatalf("start the server: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		select {
		case err := <-ended:
			t.Errorf("the server ended by itself: %v", err)
			return
		default:
		}
		command.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(stopLimit):
			t.Error("the server does not stop")
			command.Process.Kill()
		}
	})
}

// RunEtcd starts a server and returns a client that has reached it.
func RunEtcd(t testing.TB, cfg *embed.Config) *kubernetes.Client {
	t.Helper()
	if cfg == nil {
		cfg = NewTestConfig(t)
	}
	start(t, cfg)
	tls, err := cfg.ClientTLSInfo.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	endpoint := cfg.AdvertiseClientUrls[0].String()
	client, err := kubernetes.New(clientv3.Config{TLS: tls, Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyLimit)
	defer cancel()
	for {
		status, err := client.Status(ctx, endpoint)
		if err == nil && status.Leader != 0 {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the server did not get ready: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	recorder := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	client.KV = storagetesting.NewKVRecorder(client.KV, recorder)
	client.Kubernetes = recorder
	return client
}
