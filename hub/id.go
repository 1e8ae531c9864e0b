package hub

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// An event's id is its position, as text. With Config.IDKey it is the position encrypted: epoch
// and offset are exactly one block of AES. A block cipher maps each block to another one, so
// different positions have different ids, the same position always has the same id, and an id
// tells nothing else to those who do not have the key. There is no room for a signature, and
// no need for one: a client that makes an id up gets an epoch that no hub has.
//
// Positions become ids, and ids positions, only here.

// ID returns the id of the event at p, as clients are sent it: p's text form, or with
// Config.IDKey an opaque text. A client that sends it as its Last-Event-ID continues after p. An
// application uses it to give a client a position by another way than the stream, for example
// in the state with which a page begins. With Config.OwnIDs, ID returns "", because the hub
// does not make the ids.
func (h *Hub) ID(p Position) string {
	if h.cfg.OwnIDs {
		return ""
	}
	return string(h.appendID(make([]byte, 0, maxPosition+idRoom), p))
}

// ParseID returns the position whose ID is id, for [After], [Hub.Wait], and the like. It returns
// an error if id has not the form of the hub's ids, and always with Config.OwnIDs. The position
// need not be one that the hub has. An id of another hub, or one that the client has made up,
// has another epoch than the hub, which After and Wait notice.
func (h *Hub) ParseID(id string) (Position, error) {
	switch {
	case h.cfg.OwnIDs:
		return Position{}, errors.New("hub: with Config.OwnIDs, an id is no position")
	case h.idKey == nil:
		return ParsePosition(id)
	case len(id) != opaqueLen:
		return Position{}, fmt.Errorf("hub: a text of %d bytes is not an id of this hub; one has %d", len(id), opaqueLen)
	}
	var text [opaqueLen]byte
	copy(text[:], id)
	block := make([]byte, aes.BlockSize)
	if n, err := opaqueText.Decode(block, text[:]); err != nil || n != aes.BlockSize {
		return Position{}, fmt.Errorf("hub: %q is not an id of this hub", id)
	}
	h.idKey.Decrypt(block, block)
	return Position{binary.BigEndian.Uint64(block), binary.BigEndian.Uint64(block[8:])}, nil
}

// opaqueText is the text form of an encrypted position. It is strict, so that an id has one
// spelling.
var opaqueText = base64.RawURLEncoding.Strict()

const (
	opaqueLen = 22 // bytes of an encrypted position as text

	// idRoom is how many bytes of spare capacity appendID uses after the longest id.
	idRoom = aes.BlockSize
)

// appendID appends the id of p to dst, which needs idRoom bytes more than that, so that nothing is
// allocated. It must not be called with OwnIDs.
func (h *Hub) appendID(dst []byte, p Position) []byte {
	if h.idKey == nil {
		dst, _ = p.AppendText(dst) // its error is always nil
		return dst
	}
	n := len(dst)
	dst = append(dst, make([]byte, opaqueLen+aes.BlockSize)...)
	block := dst[n+opaqueLen:] // not an array on the stack, which would be allocated for the interface
	binary.BigEndian.PutUint64(block, p.Epoch)
	binary.BigEndian.PutUint64(block[8:], p.Offset)
	h.idKey.Encrypt(block, block)
	opaqueText.Encode(dst[n:], block)
	return dst[:n+opaqueLen]
}

// newIDKey returns the cipher of Config.IDKey, or nil if there is none.
func newIDKey(cfg *Config) (cipher.Block, error) {
	switch {
	case cfg.IDKey == nil:
		return nil, nil
	case cfg.OwnIDs:
		return nil, errors.New("hub: Config.IDKey must be nil with Config.OwnIDs: the ids are the application's")
	}
	block, err := aes.NewCipher(cfg.IDKey)
	if err != nil {
		return nil, fmt.Errorf("hub: Config.IDKey has %d bytes; it must have 16, 24 or 32, or be nil", len(cfg.IDKey))
	}
	return block, nil
}
