package natslog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// These are the subjects of package natslog's documentation, for the stream "events".
var (
	readerMayPublish = []string{
		"$JS.API.STREAM.INFO.events",
		"$JS.API.STREAM.MSG.GET.events",
		"$JS.API.DIRECT.GET.events",
		"$JS.API.CONSUMER.CREATE.events.*",
		"$JS.API.CONSUMER.MSG.NEXT.events.*",
		"$JS.API.CONSUMER.DELETE.events.*",
	}
	maySubscribe     = []string{"_INBOX_hub.>"}
	writerMayPublish = append([]string{"events.*"}, readerMayPublish...)
	ownerMayPublish  = append([]string{"$JS.API.STREAM.CREATE.events", "$JS.API.STREAM.UPDATE.events"}, writerMayPublish...)
)

// newCertificate returns a certificate for 127.0.0.1, and a pool with it.
func newCertificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// The documented permissions are enough, over TLS, for a node that creates the stream, one
// that publishes, and one that only reads.
func TestPermissions(t *testing.T) {
	t.Parallel()
	cert, pool := newCertificate(t)
	user := func(name string, publish []string) *server.User {
		return &server.User{Username: name, Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: maySubscribe},
		}}
	}
	s := startServer(t, embedded.Config{Listen: "127.0.0.1:0", Options: func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
		o.Users = []*server.User{user("owner", ownerMayPublish), user("writer", writerMayPublish), user("reader", readerMayPublish), {Username: "admin", Password: "secret"}}
	}})
	as := func(name string) jetstream.JetStream {
		violation := func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if name != "reader" {
				t.Errorf("the user %s: %v", name, err)
			}
		}
		nc, err := nats.Connect(s.URL(), nats.UserInfo(name, "secret"), nats.Secure(&tls.Config{RootCAs: pool}), nats.CustomInboxPrefix("_INBOX_hub"), nats.ErrorHandler(violation))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		return newJetStream(t, nc)
	}
	_, err := nats.Connect(s.URL(), nats.Secure(&tls.Config{RootCAs: pool}))
	require.ErrorIs(t, err, nats.ErrAuthorization)

	owner := openLog(t, as("owner"), Config{Stream: "events", Create: &jetstream.StreamConfig{}})
	writer := openLog(t, as("writer"), Config{Stream: "events"})
	b := bounds(t, owner)
	readers := openLog(t, as("reader"), Config{Stream: "events", ReadOnly: true})
	f := logkit.Follow(t, readers, hub.Position{Epoch: b.Epoch})
	add(t, owner, recs("a", 1, 2)...)
	keyed := hub.Record{Topic: "a b", Key: "k", Event: sse.Event{Data: "3"}}
	first := add(t, writer, keyed, rec("a", "4"))
	require.Equal(t, first[0], add(t, writer, keyed, rec("a", "5"))[0])
	require.Equal(t, []string{"1", "2", "3", "4", "5"}, texts(f.Await(5)))
	for _, l := range []*Log{owner, writer, readers} {
		for _, topics := range [][]string{nil, {"a"}, {"a", "a b"}} {
			page, err := l.Read(t.Context(), topics, hub.Position{Epoch: b.Epoch}, hub.Position{Epoch: b.Epoch, Offset: 5}, 100)
			require.NoError(t, err)
			require.Equal(t, uint64(5), page.UpTo)
			data, _ := readAll(t, l, 5, 1, topics...) // the later pages are a consumer's
			require.Equal(t, texts(page.Records), data)
		}
	}

	// A user who may not publish learns it at once, without Config.ReadOnly too.
	unaware := openLog(t, as("reader"), Config{Stream: "events"})
	for _, n := range []int{1, 2} {
		for range 2 {
			began := time.Now()
			_, err = appendWithin(t, unaware, time.Minute, recs("a", 1, n))
			require.Less(t, time.Since(began), time.Minute)
			require.ErrorIs(t, err, hub.ErrReadOnly)
			require.NotErrorIs(t, err, hub.ErrUnknown)
		}
	}
	require.Equal(t, uint64(5), bounds(t, owner).Last)

	// The owner may begin another epoch.
	owner.saw(b.Epoch, mark{9, time.Now()})
	require.NotEqual(t, b.Epoch, bounds(t, owner).Epoch)
}
