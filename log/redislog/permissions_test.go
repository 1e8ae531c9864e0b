package redislog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

// These are the users of package redislog's documentation, for the log "chat".
const (
	publisherACL = "ACL SETUSER publisher on >secret ~{chat}:* +evalsha +evalsha_ro +script|load +multi +exec +info +time +wait +hmget +hget +hset +hlen +del +unlink +exists +rename +rpush +lpop +lindex +xadd +xtrim +xread +xrange +xinfo|stream"
	readerACL    = "ACL SETUSER reader on >secret %R~{chat}:* +evalsha_ro +script|load +multi +exec +info +hmget +xread +xrange +xinfo|stream"
	observerACL  = "ACL SETUSER observer on >secret ~{chat}:* +evalsha +evalsha_ro +script|load +multi +exec +info +hmget +hset +xread +xrange +xinfo|stream"
)

// newCertificate returns the files of a certificate for 127.0.0.1 and of its key, and a pool with it.
func newCertificate(t testing.TB) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	form, err := x509.MarshalECPrivateKey(secret)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, kind string, data []byte) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600))
		return name
	}
	return write("cert", "CERTIFICATE", der), write("key", "EC PRIVATE KEY", form), pool
}

// The documented permissions are enough, over TLS and with either protocol, for a node that
// publishes, one that reads, and one that also may begin epochs.
func TestPermissions(t *testing.T) {
	t.Parallel()
	cert, key, pool := newCertificate(t)
	s := startServer(t, "--tls-port", port(&server{addr: testkit.FreeAddress(t)}), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	tlsAddr := "127.0.0.1:" + s.args[1]
	for _, line := range []string{publisherACL, readerACL, observerACL} {
		var args []any
		for word := range strings.FieldsSeq(line) {
			args = append(args, word)
		}
		s.do(args...)
	}
	as := func(name string, protocol int) *redis.Client {
		return s.client(func(opts *redis.Options) {
			opts.Addr, opts.TLSConfig = tlsAddr, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
			opts.Username, opts.Password, opts.Protocol = name, "secret", protocol
		})
	}
	for _, protocol := range []int{2, 3} {
		s.do("FLUSHALL")
		_, err := Open(t.Context(), as("reader", protocol), Config{Name: "chat", ReadOnly: true})
		var unsettled *UnsettledError
		require.ErrorAs(t, err, &unsettled)
		_, err = Open(t.Context(), as("observer", protocol), Config{Name: "chat", ReadOnly: true})
		var missing *NotFoundError
		require.ErrorAs(t, err, &missing)

		publisher := openLog(t, as("publisher", protocol), Config{MaxEvents: 20, MaxKeys: 2})
		reader := openLog(t, as("reader", protocol), Config{ReadOnly: true})
		observer := openLog(t, as("observer", protocol), Config{ReadOnly: true})
		b := bounds(t, publisher)
		start := hub.Position{Epoch: b.Epoch, Offset: b.Last}
		f := logkit.Follow(t, reader, start)
		f.Await(0)
		add(t, publisher, recs("a", 1, 2)...)
		keyed := hub.Record{Topic: "a b", Key: "k", Event: sse.Event{Data: "3"}}
		first := add(t, publisher, keyed, rec("a", "4"), hub.Record{Kind: hub.ControlRecord})
		require.Equal(t, first[0], add(t, publisher, keyed, rec("a", "5"))[0])
		for _, l := range []*Log{publisher, reader, observer} {
			for _, topics := range [][]string{nil, {"a"}, {""}} {
				data, _, err := readFrom(t, l, start.Offset, topics...)
				require.NoError(t, err)
				require.NotEmpty(t, data)
			}
		}
		require.Equal(t, []string{"1", "2", "3", "4", "", "5"}, texts(f.Await(6)))
		for i := range 100 { // old events and keys are dropped
			add(t, publisher, hub.Record{Topic: "a", Key: string(rune('a' + i))})
		}
		require.Greater(t, bounds(t, publisher).First, b.First)

		// Who may not append learns it, without Config.ReadOnly too.
		for _, name := range []string{"reader", "observer"} {
			unaware := openLog(t, as(name, protocol), Config{})
			for _, l := range []*Log{unaware, reader} {
				_, err := l.Append(t.Context(), recs("a", 1, 1))
				require.ErrorIs(t, err, hub.ErrReadOnly)
				require.NotErrorIs(t, err, hub.ErrUnknown)
			}
		}

		// A reader waits for another hub to begin the next epoch; an observer begins it.
		before := bounds(t, reader).Epoch
		s.do("HSET", reader.keys[keyMeta], "run", "another", "replid", "another")
		_, err = reader.Bounds(t.Context())
		require.ErrorAs(t, err, &unsettled)
		require.NotEqual(t, before, bounds(t, observer).Epoch)
		require.Equal(t, bounds(t, observer), bounds(t, reader))
		require.NotEmpty(t, add(t, publisher, rec("a", "next")))
	}
	_, err := Open(t.Context(), as("nobody", 3), Config{Name: "chat"})
	require.ErrorContains(t, err, "WRONGPASS")
}
