package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/plugins"
	"edged/core/config"
	"edged/core/protocol/backend"
	"edged/core/serve/models"
	"edged/core/serve/prompts"
)

// models looks at models.dir: whether it is there, what of it cannot be a model, and whether the models of
// models.pinned exist.
func (k *checker) models() {
	dir := k.c.Models.Dir
	var names []string
	if path := k.c.Model.Path; path != "" {
		names = append(names, models.Name(path))
	}
	whole := true // all names are known
	if dir != "" {
		found, refused, err := models.Look(dir, k.c.Model.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && dir == config.Default().Models.Dir:
			// Nobody has asked for this folder.
			k.note("models", "make the folder to serve more models than that of model.path", "models.dir = %s is not there", dir)
		case errors.Is(err, fs.ErrNotExist):
			k.problem(
				"models",
				fmt.Errorf("models.dir = %s is not there", dir),
				"make the folder and let the service's user read it, or set models.dir to another",
			)
		case err != nil:
			k.problem("models", fmt.Errorf("models.dir: %w", err), "let the service's user read the folder, or set models.dir to another")
			whole = false
		default:
			k.ok("models", "%s holds %s that can be served by what their headers say", dir, counted(k.readable(dir, found), "model"))
		}
		names = append(names, found...)
		for _, file := range slices.Sorted(maps.Keys(refused)) {
			k.note(
				"models",
				"rename it, or take it out of models.dir",
				"%s is not taken as a model: %s",
				filepath.Join(dir, file),
				refused[file],
			)
		}
	}
	if !whole {
		return
	}
	for _, name := range k.c.Models.Pinned {
		if slices.Contains(names, name) {
			continue
		}
		there := "this node has no models"
		if len(names) > 0 {
			there = "there are " + strings.Join(names, ", ")
		}
		k.problem(
			"models",
			fmt.Errorf("models.pinned: no model is called %q; %s", name, there),
			"put it into models.dir, or take the name out of models.pinned",
		)
	}
}

// readable reads the headers of the models of a folder, as the service does, tells which cannot be served,
// and counts the others.
func (k *checker) readable(dir string, names []string) int {
	good := 0
	for _, name := range names {
		path, err := models.Find(dir, name)
		if err == nil {
			_, err = models.Headers(path)
		}
		if err != nil {
			k.note(
				"models",
				"mend it, or take it out of models.dir: requests that name it are refused",
				"%s: %s",
				name,
				cli.OneSentence(err),
			)
			continue
		}
		good++
	}
	return good
}

// pinned adds up what the pinned models need beside the default one.
func (k *checker) pinned(ctx context.Context, s *plugins.Session, req backend.LoadRequest) {
	if len(k.c.Models.Pinned) == 0 || req.IgnorePlan {
		return
	}
	least := func(name, path string) models.State {
		req := req
		req.Path, req.MemoryLimit = path, 1 // the least that it can do with
		if path != k.c.Model.Path {
			req.DraftModel = ""
		}
		plan, err := s.Backend.Plan(ctx, req)
		if err != nil {
			return models.State{Name: name} // what is wrong with it is told where it is looked at
		}
		return models.State{Name: name, Facts: models.Facts{Needs: plan.Total}}
	}
	main := least(models.Name(k.c.Model.Path), k.c.Model.Path)
	var pinned []models.State
	var there []string
	for _, name := range k.c.Models.Pinned {
		if name == main.Name {
			pinned, there = append(pinned, main), append(there, name)
		} else if path, err := models.Find(k.c.Models.Dir, name); err == nil {
			if state := least(name, path); state.Needs > 0 {
				pinned, there = append(pinned, state), append(there, name)
			}
		}
	}
	if why := models.Crowded(k.plan.Available, main, pinned); why != "" {
		k.problem(
			"memory",
			errors.New(why),
			"pin the default model too and others less, choose smaller ones, or lower backend.context or backend.max_sequences",
		)
		return
	}
	if len(there) > 0 {
		k.ok("memory", "there is room for the default model beside what is pinned and can be served: %s", strings.Join(there, ", "))
	}
}

// prompts reads every preset of prompts.dir.
func (k *checker) prompts(ctx context.Context) {
	dir := k.c.Prompts.Dir
	if dir == "" {
		return
	}
	files, over, err := prompts.Files(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.problem(
			"prompts",
			fmt.Errorf("prompts.dir = %s is not there", dir),
			"make the folder and let the service's user read it, or set prompts.dir to another",
		)
		return
	case err != nil:
		k.problem("prompts", fmt.Errorf("prompts.dir: %w", err), "let the service's user read the folder, or set prompts.dir to another")
		return
	}
	good := 0
	for _, file := range files {
		if _, _, err := prompts.Read(ctx, file); err != nil {
			k.problem(
				"prompt",
				fmt.Errorf("%s: %w", file, err),
				"mend the file: requests that name this prompt are refused; `edged prompts "+file+"` reads it again",
			)
			continue
		}
		good++
	}
	k.ok("prompts", "%s holds %s that can be used", dir, counted(good, "prompt"))
	if len(over) > 0 {
		k.note(
			"prompts",
			"end the names of prompts in "+prompts.Extension+", and put other files elsewhere",
			"passed over in %s, since a prompt is a file NAME%s: %s",
			dir,
			prompts.Extension,
			prompts.Names(over),
		)
	}
}

// counted is a number of things.
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
