package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestArchiveHoldsBothImages(t *testing.T) {
	dir := t.TempDir()
	for _, program := range programs {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!"+program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "images.tar")
	opts := options{Out: out, Repository: "example.test/crowsnest-dev", Tag: "1.2.3", Bin: dir, Arch: "arm64"}
	if err := run(opts, io.Discard); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}

	for _, program := range programs {
		tag, err := name.NewTag("example.test/crowsnest-dev/" + program + ":1.2.3")
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(out, &tag)
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != "arm64" || config.OS != "linux" {
			t.Errorf("%s is for %s/%s, want linux/arm64", program, config.OS, config.Architecture)
		}
		if got := config.Config.Entrypoint; len(got) != 1 || got[0] != "/"+program {
			t.Errorf("%s starts %q", program, got)
		}
		if config.Config.User != "65532:65532" {
			t.Errorf("%s runs as %q, want a user without rights", program, config.Config.User)
		}
		layers, err := img.Layers()
		if err != nil || len(layers) != 2 {
			t.Fatalf("%s has %d layers (%v), want 2", program, len(layers), err)
		}
	}

	if err := run(opts, io.Discard); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(second) {
		t.Error("the same programs gave a different archive")
	}
}

func TestMissingProgramLeavesNoArchive(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "images.tar")
	if err := run(options{Out: out, Repository: "localhost", Tag: "dev", Bin: dir, Arch: "amd64"}, io.Discard); err == nil {
		t.Fatal("no error for a folder without programs")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
