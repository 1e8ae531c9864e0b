package boltlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Open opens the Log in the file at path, and makes the file if there is none. It reads the
// whole file to check it.
//
// It returns a [*LockedError] if the file is open elsewhere; a [*FormatError] if it is another
// program's, or of another version; a [*CorruptError] if it is damaged; a [*FullError] if the
// disk is full; or an error of the operating system. The file is then as it was.
func Open(path string, cfg Config) (*Log, error) { return openAt(path, cfg, time.Now) }

func openAt(path string, cfg Config, now func() time.Time) (_ *Log, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("boltlog: open: %w", err)
	}
	l := &Log{
		path: path, cfg: cfg.withDefaults(), commit: (*bbolt.Tx).Commit,
		done: make(chan struct{}), wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	f, fresh, err := l.openFile()
	if err != nil {
		return nil, err
	}
	l.bolt = f
	id, err := identify(f)
	if err == nil {
		l.file, err = f.Stat()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("boltlog: open: %w", err), f.Close())
	}
	if err := l.openBolt(f); err != nil {
		_ = f.Close() // bbolt may have closed it
		return nil, err
	}
	if err := l.begin(fresh, id, now); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	go l.write()
	return l, nil
}

// openFile opens, locks and checks the bolt file. fresh reports that there is nothing in it.
func (l *Log) openFile() (f *os.File, fresh bool, err error) {
	created := true
	f, err = os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		created = false
		f, err = os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, false, fmt.Errorf("boltlog: open: %w", err)
	}
	mine, err := lock(f, l.cfg.LockTimeout)
	switch {
	case err != nil:
		err = fmt.Errorf("boltlog: open: %w", err)
	case !mine:
		err = &LockedError{l.path}
	default:
		fresh, err = l.checkContents(f, created)
	}
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	return f, fresh, nil
}

// checkContents checks what is in the bolt file, which is locked. created says that there was no
// file before.
func (l *Log) checkContents(f *os.File, created bool) (fresh bool, err error) {
	found, err := checkFile(f, l.path)
	if created && found.fresh { // otherwise another process has been faster
		// The mark file is that of a file which was deleted. Should this process crash now,
		// it must not be taken for that of the new one.
		if err := os.Remove(l.path + markSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("boltlog: open: %w", err)
		}
	}
	if lost := l.lost(f, &found, err); lost != nil {
		return false, lost
	}
	if err != nil {
		return false, err
	}
	if found.damaged > 0 {
		l.cfg.Logger.Error("boltlog: records are damaged; their clients are told of a gap", "path", l.path, "records", found.damaged)
	}
	if found.blank { // it has only zeros: the process that made it has crashed
		if err := f.Truncate(0); err != nil {
			return false, fmt.Errorf("boltlog: open: %w", err)
		}
	}
	l.state = found.state
	return found.fresh, nil
}

// lost returns a CorruptError if the mark file says that the bolt file has had more than what
// was found in it, although it is no copy and was not restored. err is what its check has
// returned.
func (l *Log) lost(f *os.File, found *contents, err error) error {
	m, ok := loadMark(l.path)
	if !ok {
		return nil
	}
	if id, err := identify(f); err != nil {
		return fmt.Errorf("boltlog: open: %w", err)
	} else if !m.isOf(id) {
		return nil
	}
	format, isFormat := errors.AsType[*FormatError](err)
	switch {
	case isFormat && format.Version == 0 || err == nil && found.fresh:
		return &CorruptError{l.path, "it has been a log, and its beginning is gone"}
	case err == nil && found.lostMeta && m.misfit(&found.state, m.file) != "":
		return &CorruptError{l.path, "its newer meta page cannot be read, and the older one lacks what was committed last; to go on without that, delete the mark file"}
	}
	return nil
}

// openBolt opens bbolt over f.
func (l *Log) openBolt(f *os.File) error {
	opts := *bbolt.DefaultOptions
	opts.OpenFile = func(string, int, os.FileMode) (*os.File, error) { return f, nil }
	opts.Timeout = max(l.cfg.LockTimeout, time.Millisecond)
	opts.FreelistType = bbolt.FreelistMapType
	opts.NoFreelistSync = true // a commit writes less, and a damaged list cannot have live pages overwritten
	err := guard(l.path, func() (err error) {
		l.db, err = bbolt.Open(l.path, 0o600, &opts)
		return err
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		return &LockedError{l.path}
	}
	return fmt.Errorf("boltlog: open: %w", asFull(l.path, err))
}

// begin makes the Log ready: it decides about the epoch, and begins a session in both files.
func (l *Log) begin(fresh bool, id identity, now func() time.Time) (err error) {
	if l.marks, err = os.OpenFile(l.path+markSuffix, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("boltlog: open: %w", err)
	}
	m, ok := readMark(l.marks)
	misfit := "its mark file is missing or damaged"
	if ok {
		misfit = m.misfit(&l.state, id)
	}
	s := l.state
	s.OldMark, s.Mark = s.Mark, newMark()
	switch {
	case fresh:
		s = state{Epoch: newEpoch(), First: 1, Mark: s.Mark}
	case misfit != "":
		s.Epoch = newEpoch()
		s.Reserved = max(s.Reserved, m.reserved, m.last)
		s.OldMark = 0
		l.cfg.Logger.Warn("boltlog: the log begins a new epoch, and clients are told of a gap", "path", l.path, "reason", misfit)
	}
	l.clock = newClock(now, time.Unix(0, int64(s.LastTime)))
	l.next = s.Reserved + 1 // after Close, Reserved is Last
	s.Reserved += blockSize
	l.mark = mark{file: id, mark: l.state.Mark, reserved: m.reserved} // until the session is in the bolt file
	err = l.update(func(w *writing) error {
		l.recent = recentKeys(w.tx, &s)
		w.state = s
		return nil
	})
	l.mark.mark = s.Mark
	if err == nil {
		err = l.useReserved()
	}
	if err == nil {
		err = syncDir(filepath.Dir(l.path))
	}
	if err != nil {
		return fmt.Errorf("boltlog: open: %w", asFull(l.path, err))
	}
	return nil
}

// closeFiles closes both files.
func (l *Log) closeFiles() error {
	var err error
	if l.marks != nil {
		err = l.marks.Close()
	}
	if l.stuck { // bbolt would wait for its own lock
		return errors.Join(unlock(l.bolt), l.bolt.Close(), err)
	}
	return errors.Join(guard(l.path, l.db.Close), err)
}

// newMark returns a random mark, which is not 0.
func newMark() uint64 { return rand.Uint64() | 1 }

// newEpoch returns a random epoch whose text form has 8 characters.
func newEpoch() uint64 {
	const lowest = 36 * 36 * 36 * 36 * 36 * 36 * 36
	return lowest + rand.Uint64N(35*lowest)
}
