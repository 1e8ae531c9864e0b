package embedded

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// Config configures a [Server]. Dir must be set; for a server of a cluster also Name and
// Cluster.
type Config struct {
	// Dir is the folder for the server's files. Start creates it. No other server may use
	// it. Its contents must outlive the process, and belong to one node: a node of a cluster
	// that comes back with another's files, or with none, can cost the cluster its events.
	Dir string

	// Name is the server's name. In a cluster, each must have another one, and keep it.
	// Default: "sse", if Cluster is nil.
	Name string

	// Listen is the address for clients that are not in this program, such as
	// "127.0.0.1:4222". Anybody who can reach it can publish, unless Options sets up
	// credentials. Default: "", and only this program can connect. In a cluster, the server
	// then has a port on the loopback interface all the same, and a random password for it.
	Listen string

	// Cluster makes the server one of a cluster. Default: nil, and the server is alone.
	Cluster *Cluster

	// MaxBytes is how much the files of all streams may take, in bytes. Streams that are
	// about to be created are refused if their MaxBytes do not fit in. Default: no bound but
	// that of the streams.
	MaxBytes int64

	// SlowSync lets the server write events to the disk some time after it has acknowledged
	// them, but within two minutes. Publishing is faster then. If the machine loses its
	// power, acknowledged events are lost, unless other servers of the cluster have them
	// and keep running. A kill -9 loses none. Default: false, and each event is on the disk
	// when it is acknowledged.
	SlowSync bool

	// MaxPayload is the size of the largest message, in bytes, and so about that of the
	// largest event. Default: 8 MiB, which is also the most that NATS advises.
	MaxPayload int32

	// Options may change the options of the server before it starts, for example to add
	// credentials, permissions and TLS. Default: nil.
	Options func(*server.Options)

	// Logger logs what the server says: its errors and warnings, and the rest at the level
	// of debugging. Default: slog.Default().
	Logger *slog.Logger
}

// Cluster says how the servers of a cluster find each other. Three servers go on if one of
// them fails, five if two do.
type Cluster struct {
	// Name is the name of the cluster, which is the same in all its servers. Default:
	// "sse".
	Name string

	// Listen is the address for the other servers, such as "10.0.0.1:6222".
	Listen string

	// Peers are the addresses of all servers of the cluster, with or without this one.
	Peers []string

	// Secret is what the servers tell each other to be let in. It is the same in all of
	// them. It is sent in plain text, unless Options sets Cluster.TLSConfig. Default: "",
	// and anybody who can reach Listen is let in.
	Secret string
}

// options returns the options of the server, or an error if c is invalid.
func (c *Config) options() (*server.Options, error) {
	if c.Dir == "" {
		return nil, errors.New("Config.Dir must be set")
	}
	if c.MaxBytes < 0 {
		return nil, errors.New("Config.MaxBytes must be positive, or zero for no bound")
	}
	if c.MaxPayload < 0 {
		return nil, errors.New("Config.MaxPayload must be positive, or zero for its default")
	}
	opts := &server.Options{
		ServerName: c.Name, JetStream: true, StoreDir: c.Dir, NoSigs: true, DontListen: c.Listen == "",
		SyncAlways: !c.SlowSync, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: c.MaxBytes, DisableJetStreamBanner: true,
		MaxPayload: cmp.Or(c.MaxPayload, 8<<20),
	}
	if c.MaxBytes == 0 {
		opts.JetStreamMaxStore = math.MaxInt64
	}
	if c.Listen != "" {
		var err error
		if opts.Host, opts.Port, err = splitAddress("Config.Listen", c.Listen); err != nil {
			return nil, err
		}
	}
	switch {
	case c.Cluster != nil:
		if err := c.clusterOptions(opts); err != nil {
			return nil, err
		}
	case c.Name == "":
		opts.ServerName = "sse"
	}
	if c.Options != nil {
		c.Options(opts)
	}
	if c.Cluster != nil && opts.DontListen { // a server without a port for clients opens none for routes
		opts.DontListen, opts.Host, opts.Port = false, "127.0.0.1", server.RANDOM_PORT
		if opts.Authorization == "" && opts.Username == "" && len(opts.Users)+len(opts.Nkeys)+len(opts.TrustedOperators) == 0 && opts.CustomClientAuthentication == nil {
			opts.Authorization = rand.Text()
		}
	}
	return opts, nil
}

// clusterOptions sets the options that make the server one of a cluster.
func (c *Config) clusterOptions(opts *server.Options) (err error) {
	if c.Name == "" {
		return errors.New("Config.Name must be set in a cluster")
	}
	if len(c.Cluster.Peers) == 0 {
		return errors.New("Config.Cluster.Peers must have the addresses of the other servers")
	}
	o := &opts.Cluster
	if o.Name = c.Cluster.Name; o.Name == "" {
		o.Name = "sse"
	}
	if o.Host, o.Port, err = splitAddress("Config.Cluster.Listen", c.Cluster.Listen); err != nil {
		return err
	}
	var user *url.Userinfo
	if c.Cluster.Secret != "" {
		o.Username, o.Password = "sse", c.Cluster.Secret
		user = url.UserPassword(o.Username, o.Password)
	}
	for _, peer := range slices.Compact(slices.Sorted(slices.Values(c.Cluster.Peers))) {
		if _, _, err := splitAddress("Config.Cluster.Peers", peer); err != nil {
			return err
		}
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", User: user, Host: peer})
	}
	return nil
}

// splitAddress splits an address into its host and port.
func splitAddress(field, address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || host == "" || port < 0 || port > math.MaxUint16 {
		return "", 0, fmt.Errorf("%s has the address %q; it must be a host and a port, as in 127.0.0.1:4222", field, address)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}
