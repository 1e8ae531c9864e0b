package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestIsDisk(t *testing.T) {
	counters := map[string]int{}
	disks := []string{"sda", "sdaa", "sdb", "nvme0n1", "mmcblk0", "vda", "xvda1", "disk0", "disk1", "disk10", "ada0", "C:"}
	others := []string{
		"sda1", "sdaa2", "sdb12", "nvme0n1p1", "nvme0n1p15", "mmcblk0p2", "vda1", "disk1s4", "ada0p3",
		"dm-0", "md127", "loop3", "ram0", "zram0",
	}
	for _, name := range append(disks, others...) {
		counters[name] = 0
	}
	for _, name := range disks {
		assert.True(t, isDisk(name, counters), name)
	}
	for _, name := range others {
		assert.False(t, isDisk(name, counters), name)
	}
}

func TestReadMachine(t *testing.T) {
	r := readMachine(t.TempDir())
	assert.NotZero(t, r.time)
	assert.NotEmpty(t, r.cores)
	if assert.NotNil(t, r.memory) {
		assert.Positive(t, r.memory.total)
	}
	if assert.NotNil(t, r.space) {
		assert.Positive(t, r.space.total)
	}
	assert.Nil(t, readMachine("/no/such/place").space)
}
